"""Jacobians, Hessians and products, against what they are for functions whose derivatives are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau.autograd import functional

A = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
X = np.array([0.5, -1.0, 2.0])


def vector(values: Any) -> Any:
    return flambeau.tensor(np.asarray(values).tolist(), dtype=flambeau.float64)


def linear(x: Any) -> Any:
    return vector(A) @ x


def cubes(x: Any) -> Any:
    return (x ** 3).sum()


def test_jacobian() -> None:
    np.testing.assert_allclose(functional.jacobian(linear, vector(X)).numpy(), A)
    first, second = functional.jacobian(lambda x, y: x * y, (vector(X), vector(X + 1)))
    np.testing.assert_allclose(first.numpy(), np.diag(X + 1))
    np.testing.assert_allclose(second.numpy(), np.diag(X))


def test_jacobian_of_what_does_not_depend() -> None:
    assert functional.jacobian(lambda x, y: x * 1, (vector(X), vector(X)))[1].tolist() == np.zeros((3, 3)).tolist()
    with pytest.raises(RuntimeError, match="independent"):
        functional.jacobian(lambda x, y: x * 1, (vector(X), vector(X)), strict=True)


def test_hessian() -> None:
    np.testing.assert_allclose(functional.hessian(cubes, vector(X)).numpy(), np.diag(6 * X))
    table = functional.hessian(lambda x, y: (x * y).sum(), (vector(X), vector(X)))
    np.testing.assert_allclose(table[0][1].numpy(), np.eye(3))
    np.testing.assert_allclose(table[0][0].numpy(), np.zeros((3, 3)))


def test_products() -> None:
    v = np.array([1.0, -1.0])
    value, product = functional.vjp(linear, vector(X), vector(v))
    np.testing.assert_allclose(value.numpy(), A @ X)
    np.testing.assert_allclose(product.numpy(), v @ A)
    np.testing.assert_allclose(functional.jvp(linear, vector(X), vector(X))[1].numpy(), A @ X)
    np.testing.assert_allclose(functional.jvp(lambda x: x.exp(), vector(X), vector(X + 1))[1].numpy(), np.exp(X) * (X + 1))
    np.testing.assert_allclose(functional.vhp(cubes, vector(X), vector(X + 1))[1].numpy(), 6 * X * (X + 1))
    np.testing.assert_allclose(functional.hvp(cubes, vector(X), vector(X))[1].numpy(), 6 * X * X)


def test_create_graph_keeps_the_history() -> None:
    x = vector(X).requires_grad_()
    functional.jacobian(lambda t: t ** 2, x, create_graph=True).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [2.0] * 3)


@pytest.mark.parametrize("use,kind,text", [
    (lambda: functional.vjp(linear, vector(X)), RuntimeError, "can only be None"),
    (lambda: functional.vjp(linear, vector(X), vector(X)), RuntimeError, "invalid size"),
    (lambda: functional.jacobian(linear, 3), TypeError, "must be either a Tensor or a tuple"),
    (lambda: functional.hessian(linear, vector(X)), RuntimeError, "single element"),
])
def test_refusals(use: Any, kind: type, text: str) -> None:
    with pytest.raises(kind, match=text):
        use()
