"""Linear algebra and transforms beside PyTorch: second derivatives and the words of errors (first ones: conformance)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import flambeau as ft

SQUARE, TALL, WIDE = (2, 3, 3), (4, 3), (3, 4)
#: name -> (function of the namespace and its operands, their shapes)
CASES: dict[str, tuple[Any, list]] = {
    "inv": (lambda t, a: t.linalg.inv(a), [SQUARE]),
    "solve": (lambda t, a, b: t.linalg.solve(a, b), [SQUARE, (2, 3, 2)]),
    "solve from the right": (lambda t, a, b: t.linalg.solve(a, b, left=False), [SQUARE, (2, 2, 3)]),
    "solve_triangular": (lambda t, a, b: t.linalg.solve_triangular(a, b, upper=False), [SQUARE, (3, 2)]),
    "lu": (lambda t, a: t.linalg.lu(a)[1:], [SQUARE]),
    "lu tall": (lambda t, a: t.linalg.lu(a)[1:], [TALL]),
    "lu wide": (lambda t, a: t.linalg.lu(a)[1:], [WIDE]),
    "lu_solve": (lambda t, a, b: t.linalg.lu_solve(*t.linalg.lu_factor(a), b, adjoint=True), [SQUARE, (2, 3, 2)]),
    "cholesky": (lambda t, a: t.linalg.cholesky(a @ a.mH), [SQUARE]),
    "cholesky upper": (lambda t, a: t.linalg.cholesky(a @ a.mH, upper=True), [SQUARE]),
    "cholesky_solve": (lambda t, b, a: t.cholesky_solve(b, a.tril()), [(3, 2), SQUARE[1:]]),
    "cholesky_inverse": (lambda t, a: t.cholesky_inverse(t.linalg.cholesky(a @ a.mH)), [SQUARE]),
    "qr": (lambda t, a: t.linalg.qr(a), [TALL]),
    "qr wide": (lambda t, a: t.linalg.qr(a), [WIDE]),
    "qr complete": (lambda t, a: t.linalg.qr(a, mode="complete"), [SQUARE]),
    "eigh": (lambda t, a: (lambda r: (r[0], abs(r[1])))(t.linalg.eigh(a + a.mH)), [SQUARE]),
    "eigvalsh": (lambda t, a: t.linalg.eigvalsh(a + a.mH), [SQUARE]),
    "eig": (lambda t, a: (lambda r: (abs(r[0]).sum(-1), abs(r[1]).sum(-1)))(t.linalg.eig(a)), [SQUARE]),
    "eigvals": (lambda t, a: abs(t.linalg.eigvals(a)).sum(-1), [SQUARE]),
    "svd": (lambda t, a: (lambda r: (abs(r[0]), r[1], abs(r[2])))(t.linalg.svd(a, full_matrices=False)), [TALL]),
    "svd wide": (lambda t, a: (lambda r: (abs(r[0]), r[1], abs(r[2])))(t.linalg.svd(a, full_matrices=False)), [WIDE]),
    "svdvals": (lambda t, a: t.linalg.svdvals(a), [WIDE]),
    "pinv": (lambda t, a: t.linalg.pinv(a), [TALL]),
    "lstsq": (lambda t, a, b: t.linalg.lstsq(a, b)[0], [TALL, (4, 2)]),
    "det": (lambda t, a: t.linalg.det(a), [SQUARE]),
    "slogdet": (lambda t, a: t.linalg.slogdet(a), [SQUARE]),
    "matrix_exp": (lambda t, a: t.linalg.matrix_exp(a), [SQUARE]),
    "matrix_power": (lambda t, a: t.linalg.matrix_power(a, -3), [SQUARE]),
    "nuclear norm": (lambda t, a: t.linalg.matrix_norm(a, "nuc"), [TALL]),
    "spectral norm": (lambda t, a: t.linalg.matrix_norm(a, 2), [TALL]),
    "cond": (lambda t, a: t.linalg.cond(a), [SQUARE]),
    "householder_product": (lambda t, a, tau: t.linalg.householder_product(a, tau), [TALL, (3,)]),
    "ormqr": (lambda t, a, tau, b: t.ormqr(a, tau, b, True, True), [TALL, (3,), (4, 2)]),
    "tensorsolve": (lambda t, a, b: t.linalg.tensorsolve(a, b), [(2, 3, 6), (2, 3)]),
    "fft": (lambda t, a: t.fft.fft(a, 5, norm="ortho"), [WIDE]),
    "irfft2": (lambda t, a: t.fft.irfft2(a, (4, 5)), [WIDE]),
    "hfftn": (lambda t, a: t.fft.hfftn(a, norm="forward"), [WIDE]),
    "stft": (lambda t, a: t.stft(a, 8, return_complex=True, onesided=not a.is_complex()), [(40,)]),
}


def _outputs(found: Any) -> list[Any]:
    return [x for x in (found if isinstance(found, (tuple, list)) else [found]) if x.requires_grad]


def _derivatives(t: Any, fn: Any, operands: list[Any]) -> tuple[list, list, list]:
    """Values, first derivatives, and derivatives of their squares."""
    outs = _outputs(fn(t, *operands))
    loss = sum((abs(o) ** 2 * (1 + i)).sum() + o.real.sum() if o.is_complex() else (o.sin() * (1 + i)).sum()
               for i, o in enumerate(outs))
    first = t.autograd.grad(loss, operands, create_graph=True)
    again = sum((abs(g) ** 2).sum() for g in first)
    return outs, first, t.autograd.grad(again, operands)


@pytest.mark.parametrize("kind", ["float64", "complex128"])
@pytest.mark.parametrize("name", CASES)
def test_derivatives(name: str, kind: str) -> None:
    fn, shapes = CASES[name]
    rng = np.random.default_rng(7)
    arrays = [rng.standard_normal(s) + (1j * rng.standard_normal(s) if kind == "complex128" else 0) for s in shapes]
    if shapes[0] == SQUARE:  # far from singular
        arrays[0] = arrays[0] + 3 * np.eye(3)
    ours = _derivatives(ft, fn, [ft.tensor(a).requires_grad_() for a in arrays])
    theirs = _derivatives(torch, fn, [torch.tensor(a, requires_grad=True) for a in arrays])
    for order, (mine, want) in enumerate(zip(ours, theirs)):
        for g, w in zip(mine, want, strict=True):
            w = w.detach().resolve_conj().numpy()
            np.testing.assert_allclose(g.detach().numpy(), w, 1e-7, 1e-8 * max(1.0, np.abs(w).max()), err_msg=str(order))


WRONG: list[Any] = [
    lambda t: t.linalg.inv(t.zeros(3)), lambda t: t.linalg.inv(t.zeros(3, 3)), lambda t: t.linalg.inv(t.zeros(2, 3, 3)),
    lambda t: t.linalg.inv(t.zeros(3, 2)), lambda t: t.linalg.inv(t.zeros(3, 3).int()),
    lambda t: t.linalg.inv(t.zeros(3, 3).half()), lambda t: t.linalg.solve(t.eye(3), t.zeros(4, 2)),
    lambda t: t.linalg.cholesky(-t.eye(3)), lambda t: t.linalg.lu_factor(t.eye(3), pivot=False),
    lambda t: t.linalg.eigh(t.zeros(2, 2), UPLO="x"), lambda t: t.linalg.qr(t.zeros(2, 2), mode="x"),
    lambda t: t.linalg.svd(t.full((2, 2), float("nan"))), lambda t: t.linalg.eig(t.full((2, 2), float("nan"))),
    lambda t: t.linalg.det(t.zeros(2, 3)), lambda t: t.logdet(t.zeros(2, 3)), lambda t: t.linalg.tensorinv(t.zeros(2, 3, 4)),
    lambda t: t.linalg.matrix_power(t.zeros(3, 3), -1), lambda t: t.linalg.multi_dot([t.eye(3)]),
    lambda t: t.linalg.multi_dot([t.eye(3), t.eye(2)]), lambda t: t.linalg.multi_dot([t.eye(3), t.zeros(2, 3, 3), t.eye(3)]),
    lambda t: t.linalg.matrix_norm(t.zeros(3)), lambda t: t.linalg.matrix_norm(t.eye(3), 3),
    lambda t: t.linalg.norm(t.zeros(2, 2, 2), 2), lambda t: t.linalg.cond(t.zeros(3)), lambda t: t.linalg.cond(t.eye(3), 7),
    lambda t: t.linalg.cond(t.zeros(2, 3), 1), lambda t: t.linalg.lstsq(t.eye(3), t.zeros(3, 2), driver="bad"),
    lambda t: t.linalg.lstsq(t.zeros(3), t.zeros(3)), lambda t: t.linalg.lstsq(t.eye(3), t.zeros(4, 2)),
    lambda t: t.linalg.vander(t.zeros(3), N=1), lambda t: t.linalg.cross(t.zeros(4), t.zeros(4)),
    lambda t: t.linalg.cross(t.zeros(3), t.zeros(2, 3)), lambda t: t.cholesky_inverse(t.zeros(3, 2)),
    lambda t: t.fft.fft(t.zeros(3), 0), lambda t: t.fft.fft(t.zeros(3), norm="x"),
    lambda t: t.fft.fftn(t.zeros(3, 3), dim=(0, 0)),
    lambda t: t.fft.rfft(t.zeros(3) + 0j), lambda t: t.fft.irfftn(t.zeros(3, 3), s=(3,), dim=(0, 1)),
    lambda t: t.stft(t.zeros(9), 8), lambda t: t.fft.fft(t.zeros(3).half()),
    lambda t: t.linalg.householder_product(t.zeros(2, 3), t.zeros(2)),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_errors(number: int) -> None:
    call = WRONG[number]
    with pytest.raises(Exception) as theirs:  # noqa: PT011 - whatever PyTorch raises
        call(torch)
    with pytest.raises(Exception) as ours:  # noqa: PT011
        call(ft)
    wanted = ft.linalg.LinAlgError if isinstance(theirs.value, torch.linalg.LinAlgError) else type(theirs.value)
    assert type(ours.value) is wanted, (str(ours.value), str(theirs.value))
    first = str(theirs.value).split("\n")[0].removeprefix("torch.")
    assert str(ours.value).removeprefix("torch.")[:40] == first[:40]
