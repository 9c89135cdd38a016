"""Factorizations multiply back, solvers solve, symmetric gradients are derivatives, failures say what PyTorch says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau as ft
from flambeau import linalg as la

DTYPES = ("float32", "float64", "complex64", "complex128")
ROOM = {"float32": 2e-5, "complex64": 2e-5, "float64": 1e-11, "complex128": 1e-11}


def random(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0) -> Any:
    rng = np.random.default_rng([seed, *shape])
    values = rng.standard_normal(shape)
    if dtype.startswith("complex"):
        values = values + 1j * rng.standard_normal(shape)
    return ft.tensor(values.astype(dtype))


def definite(n: int, dtype: str, lead: tuple[int, ...] = ()) -> Any:
    a = random((*lead, n, n), dtype)
    return a @ a.mH + n * ft.eye(n, dtype=a.dtype)


def close(a: Any, b: Any, dtype: str) -> None:
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=20 * ROOM[dtype], atol=20 * ROOM[dtype])


# ---- identities ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 3), (2, 5, 3), (2, 3, 5), (0, 3, 2)])
def test_factors_multiply_back(dtype: str, shape: tuple[int, ...]) -> None:
    a = random(shape, dtype)
    q, r = la.qr(a)
    close(q @ r, a, dtype)
    u, s, vh = la.svd(a, full_matrices=False)
    close((u * s.unsqueeze(-2)) @ vh, a, dtype)
    assert s.dtype is a.dtype.to_real() and u.dtype is a.dtype
    p, lower, upper = la.lu(a)
    close(p @ lower @ upper, a, dtype)
    packed, tau = ft.geqrf(a)
    k = min(shape[-2:])
    if shape[-2] >= shape[-1]:
        close(la.householder_product(packed, tau) @ packed.triu()[..., :k, :], a, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("upper", [False, True])
def test_symmetric_factors_multiply_back(dtype: str, upper: bool) -> None:
    a = definite(4, dtype, (2,))
    factor = la.cholesky(a, upper=upper)
    close(factor.mH @ factor if upper else factor @ factor.mH, a, dtype)
    close(ft.cholesky_inverse(factor, upper) @ a, ft.eye(4, dtype=a.dtype).expand(2, 4, 4), dtype)
    b = random((2, 4, 3), dtype)
    close(a @ ft.cholesky_solve(b, factor, upper), b, dtype)
    values, vectors = la.eigh(a, UPLO="U" if upper else "L")
    close((vectors * values.unsqueeze(-2)) @ vectors.mH, a, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_eigenvectors_are_eigenvectors(dtype: str) -> None:
    a = random((2, 4, 4), dtype)
    values, vectors = la.eig(a)
    assert values.dtype is a.dtype.to_complex()
    close(a.to(vectors.dtype) @ vectors, vectors * values.unsqueeze(-2), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("adjoint", [True, False])
def test_systems_are_solved(dtype: str, left: bool, adjoint: bool) -> None:
    a, b = random((2, 4, 4), dtype), random((2, 4, 3) if left else (2, 3, 4), dtype)
    turned = a.mH if adjoint else a
    x = la.lu_solve(*la.lu_factor(a), b, left=left, adjoint=adjoint)
    close(turned @ x if left else x @ turned, b, dtype)
    x = la.solve(turned, b, left=left)
    close(turned @ x if left else x @ turned, b, dtype)
    t = a.triu()
    x = la.solve_triangular(a, b, upper=True, left=left)
    close(t @ x if left else x @ t, b, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hermitian", [False, True])
def test_ldl_solves_indefinite_systems(dtype: str, hermitian: bool) -> None:
    a = random((6, 5, 5), dtype)
    a = a + (a.mH if hermitian else a.mT)
    a.diagonal(0, -2, -1).zero_()  # no pivot on the diagonal: blocks of two are needed
    ld, pivots = la.ldl_factor(a, hermitian=hermitian)
    assert (pivots < 0).any()
    b = random((6, 5, 2), dtype)
    np.testing.assert_allclose((a @ la.ldl_solve(ld, pivots, b, hermitian=hermitian)).numpy(), b.numpy(),
                               atol=1e3 * ROOM[dtype])


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("left", [False, True])
def test_reflectors_apply_without_their_product(left: bool, transpose: bool) -> None:
    a = random((4, 4), "complex128")
    packed, tau = ft.geqrf(a)
    q = la.householder_product(packed, tau)
    other = random((4, 2) if left else (2, 4), "complex128")
    turned = q.mH if transpose else q
    close(ft.ormqr(packed, tau, other, left, transpose), turned @ other if left else other @ turned, "complex128")


@pytest.mark.parametrize("dtype", DTYPES)
def test_pseudo_inverses_and_least_squares(dtype: str) -> None:
    a = random((5, 3), dtype)
    x = la.pinv(a)
    close(a @ x @ a, a, dtype)
    close((a @ x).mH, a @ x, dtype)
    b = random((5, 2), dtype)
    for driver in ("gels", "gelsy", "gelsd", "gelss"):
        found = la.lstsq(a, b, driver=driver)
        close(found.solution, x @ b, dtype)
        assert (found.residuals.numel() > 0) == (driver != "gelsy")
    low = random((5, 2), dtype) @ random((2, 4), dtype)
    assert la.matrix_rank(low).item() == 2
    assert la.matrix_rank(definite(3, dtype), hermitian=True).item() == 3


def test_norms_and_conditions() -> None:
    a = random((3, 3))
    for order in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf):
        assert la.norm(a, order).item() == pytest.approx(np.linalg.norm(a.numpy(), order))
        assert la.matrix_norm(a, order).item() == pytest.approx(np.linalg.norm(a.numpy(), order))
    for order in (None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf):
        assert la.cond(a, order).item() == pytest.approx(np.linalg.cond(a.numpy(), order))
    assert la.cond(ft.zeros(2, 2), 1).item() == np.inf
    assert ft.norm(a, "nuc").item() == pytest.approx(np.linalg.norm(a.numpy(), "nuc"))


def test_tensors_as_matrices() -> None:
    a = random((2, 3, 6))
    np.testing.assert_allclose(la.tensorinv(a, 2).numpy(), np.linalg.tensorinv(a.numpy(), 2))
    b = random((2, 3))
    np.testing.assert_allclose(la.tensorsolve(a, b).numpy(), np.linalg.tensorsolve(a.numpy(), b.numpy()))
    matrices = [random(s) for s in ((4,), (4, 5), (5, 2), (2,))]
    np.testing.assert_allclose(la.multi_dot(matrices).numpy(), np.linalg.multi_dot([m.numpy() for m in matrices]))


# ---- gradients ----------------------------------------------------------------------------------------------------


def symmetric_difference(fn: Any, a: Any, direction: np.ndarray, step: float = 1e-6) -> float:
    high, low = (fn(ft.tensor(a.numpy() + s * direction)).item() for s in (step, -step))
    return (high - low) / (2 * step)


WEIGHTS = np.cos(np.arange(16.0)).reshape(4, 4)
SYMMETRIC = {
    "cholesky": lambda a: (la.cholesky(a) * ft.tensor(WEIGHTS)).sum(),
    "cholesky upper": lambda a: (la.cholesky(a, upper=True) * ft.tensor(WEIGHTS)).sum(),
    "eigh": lambda a: (la.eigh(a).eigenvectors.square() * ft.tensor(WEIGHTS)).sum() + la.eigh(a).eigenvalues[0].exp(),
    "eigvalsh": lambda a: (la.eigvalsh(a) * ft.tensor(WEIGHTS[0])).sum(),
    "pinv": lambda a: (la.pinv(a, hermitian=True) * ft.tensor(WEIGHTS)).sum(),
}


@pytest.mark.parametrize("name", SYMMETRIC)
def test_symmetric_gradients(name: str) -> None:
    fn, a = SYMMETRIC[name], definite(4, "float64").requires_grad_()
    grad, = ft.autograd.grad(fn(a), [a], create_graph=True)
    direction = WEIGHTS + WEIGHTS.T
    slope = (grad * ft.tensor(direction)).sum()
    assert slope.item() == pytest.approx(symmetric_difference(fn, a.detach(), direction), rel=1e-5)

    def first(x: Any) -> Any:
        x.requires_grad_()
        return (ft.autograd.grad(fn(x), [x])[0] * ft.tensor(direction)).sum()

    second, = ft.autograd.grad(slope, [a])
    want = symmetric_difference(first, a.detach(), direction, 1e-5)
    assert (second * ft.tensor(direction)).sum().item() == pytest.approx(want, rel=1e-4, abs=1e-6)


def test_least_squares_gradient() -> None:
    a, b = random((5, 3)).requires_grad_(), random((5, 2)).requires_grad_()
    assert ft.autograd.gradcheck(lambda x, y: la.lstsq(x, y, driver="gelsd")[:2], (a, b))
    assert ft.autograd.gradcheck(lambda x: la.pinv(x), (a,))
    assert ft.autograd.gradgradcheck(lambda x: la.pinv(x), (a,))


@pytest.mark.parametrize("fn", [la.svdvals, la.eigvalsh, lambda x: la.svd(x).S, lambda x: la.norm(x, "nuc"), la.det])
def test_equal_singular_values_have_gradients(fn: Any) -> None:
    a = ft.eye(3, dtype=ft.float64).requires_grad_()
    grad, = ft.autograd.grad(fn(a).sum(), [a])
    np.testing.assert_allclose(grad.numpy(), np.eye(3), atol=1e-12)


def test_determinant_of_a_singular_matrix_has_a_gradient() -> None:
    a = ft.tensor([[1.0, 2.0], [2.0, 4.0]], requires_grad=True)
    ft.det(a).backward()
    np.testing.assert_allclose(a.grad.numpy(), [[4, -2], [-2, 1]], atol=1e-5)


def test_what_has_no_derivative_says_so() -> None:
    tall = random((4, 2)).requires_grad_()
    with pytest.raises(RuntimeError, match="not differentiable when mode='complete' and nrows > ncols"):
        la.qr(tall, mode="complete").R.sum().backward()
    with pytest.raises(RuntimeError, match="depends on Q, which is not computed when mode='r'"):
        la.qr(tall, mode="r").R.sum().backward()


# ---- failures -----------------------------------------------------------------------------------------------------

SINGULAR = [
    (lambda: la.inv(ft.zeros(2, 2)), r"linalg\.inv: The diagonal element 1 is zero, the inversion could not be completed"),
    (lambda: la.inv(ft.stack([ft.eye(2), ft.zeros(2, 2)])), r"linalg\.inv: \(Batch element 1\): The diagonal element 1"),
    (lambda: la.solve(ft.ones(2, 2), ft.ones(2)), "The solver failed because the input matrix is singular"),
    (lambda: la.cholesky(-ft.eye(3)), r"leading minor of order 1 is not positive-definite"),
    (lambda: ft.cholesky(ft.stack([ft.eye(2), -ft.eye(2)])), r"cholesky: \(Batch element 1\)"),
    (lambda: la.eigh(ft.full((2, 2), float("nan"))), "failed to converge because the input matrix is ill-conditioned"),
    (lambda: la.svd(ft.full((2, 2), float("nan"))), "failed to converge because the input matrix contained non-finite values"),
]


@pytest.mark.parametrize(("call", "words"), SINGULAR)
def test_singular_matrices_raise(call: Any, words: str) -> None:
    with pytest.raises(la.LinAlgError, match=words) as caught:
        call()
    assert isinstance(caught.value, RuntimeError)


WRONG = [
    (lambda: la.inv(ft.zeros(3)), "must have at least 2 dimensions"),
    (lambda: la.inv(ft.zeros(3, 2)), "must be batches of square matrices, but they are 3 by 2 matrices"),
    (lambda: la.inv(ft.zeros(2, 2, dtype=ft.int64)), "Expected a floating point or complex tensor as input. Got Long"),
    (lambda: la.inv(ft.zeros(2, 2, dtype=ft.float16)), "Low precision dtypes not supported. Got Half"),
    (lambda: la.solve(ft.eye(3), ft.zeros(4, 2)), r"Incompatible shapes of A and B for the equation AX = B \(3x3 and 4x2\)"),
    (lambda: la.solve(ft.eye(3), ft.zeros(3, dtype=ft.float64)), "to have the same dtype"),
    (lambda: la.multi_dot([ft.eye(3)]), "expected at least 2 tensors but got 1"),
    (lambda: la.multi_dot([ft.eye(3), ft.eye(2)]), r"shapes \[3, 3\] and \[2, 2\] cannot be multiplied"),
    (lambda: la.norm(ft.zeros(2, 2, 2), 2), "must be 1D or 2D. Got 3D"),
    (lambda: la.matrix_norm(ft.eye(2), 3), "Order 3 not supported"),
    (lambda: la.lstsq(ft.eye(2), ft.eye(2), driver="best"), "should be one of"),
    (lambda: la.vander(ft.zeros(3), N=1), "N must be greater than 1"),
    (lambda: la.lu_factor(ft.eye(2), pivot=False), "LU without pivoting is not implemented on the CPU"),
]


@pytest.mark.parametrize(("call", "words"), WRONG)
def test_wrong_arguments_raise(call: Any, words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        call()


def test_infos_instead_of_errors() -> None:
    a = ft.stack([ft.eye(2), ft.tensor([[1.0, 2.0], [2.0, 4.0]])])
    assert la.inv_ex(a).info.tolist() == [0, 2]
    assert la.solve_ex(a, ft.ones(2, 2)).info.tolist() == [0, 2]
    assert la.cholesky_ex(a - 2 * ft.eye(2)).info.tolist() == [1, 1]
    assert la.lu_factor_ex(a).info.tolist() == [0, 2]
    close(la.inv_ex(a).inverse[0], ft.eye(2), "float32")


# ---- names, out=, compiled ----------------------------------------------------------------------------------------


def test_results_are_named_as_pytorch_names_them() -> None:
    a = definite(2, "float32")
    fields = {la.eigh: "eigenvalues eigenvectors", la.svd: "U S Vh", ft.svd: "U S V", la.qr: "Q R", la.lu: "P L U",
              la.lu_factor: "LU pivots", la.slogdet: "sign logabsdet", la.inv_ex: "inverse info", la.cholesky_ex: "L info",
              la.ldl_factor: "LD pivots", ft.geqrf: "a tau"}
    for fn, names in fields.items():
        assert " ".join(fn(a)._fields) == names
    assert repr(la.slogdet(a)).startswith("torch.return_types.linalg_slogdet(\nsign=")


def test_results_go_where_out_says() -> None:
    a = definite(3, "float64")
    values, vectors = ft.empty(0, dtype=a.dtype), ft.empty(0, dtype=a.dtype)
    found = la.eigh(a, out=(values, vectors))
    assert found.eigenvalues is values and tuple(vectors.shape) == (3, 3)
    close(vectors, la.eigh(a).eigenvectors, "float64")
    out = ft.empty(0, dtype=a.dtype)
    assert la.inv(a, out=out) is out
    close(out @ a, ft.eye(3, dtype=a.dtype), "float64")


PROGRAMS = {
    "solve": lambda a, b: la.solve(a, b * 2).exp().sum(),
    "factors": lambda a, b: (la.qr(a).R.abs() @ b).sum() + la.lu(a).U.diagonal().sum() + la.svdvals(a).square().sum(),
    "functions": lambda a, b: ft.slogdet(a).logabsdet + la.norm(a, "nuc") + (la.pinv(a) @ b).sum() + a.inverse().trace(),
    "spectra": lambda a, b: la.eigh(a + a.mT).eigenvalues.square().sum() + ft.fft.rfft2(b).abs().sum(),
}


@pytest.mark.parametrize("backend", ["numpy", "cpp"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_compiled_as_eager(name: str, backend: str) -> None:
    fn = PROGRAMS[name]
    a, b = (definite(3, "float64") + 0.1 * random((3, 3))).requires_grad_(), random((3, 2)).requires_grad_()
    want, got = fn(a, b), ft.compile(fn, fullgraph=True, backend=backend)(a, b)
    close(got, want, "float64")
    for g, w in zip(ft.autograd.grad(got, [a, b]), ft.autograd.grad(want, [a, b])):
        close(g, w, "float64")


FORWARD = {
    "svd": lambda a: la.svd(a).S.sin() + la.svd(a).U.square().sum(0), "eigh": lambda a: la.eigh(a + a.mT).eigenvectors.square(),
    "eig": lambda a: la.eig(a).eigenvectors.abs(), "lu": lambda a: la.lu(a).U, "qr": lambda a: la.qr(a).R.square(),
    "cholesky": lambda a: la.cholesky(a @ a.mT), "det": la.det, "slogdet": lambda a: ft.slogdet(a).logabsdet,
    "fft": lambda a: ft.fft.fft2(a).abs(), "matrix_exp": la.matrix_exp,
    "lstsq": lambda a: la.lstsq(a, ft.ones(3, 1, dtype=ft.float64)).solution,
}


@pytest.mark.parametrize("name", FORWARD)
def test_forward_mode(name: str) -> None:
    """The derivative along a direction comes from the rules for gradients, at a gradient of 0: they are linear there too."""
    fn, a = FORWARD[name], random((3, 3)) + ft.diag(ft.tensor([2.0, 3.0, 5.0], dtype=ft.float64))
    direction = random((3, 3), seed=1)
    _, slope = ft.func.jvp(fn, (a,), (direction,))
    want = (fn(a + 1e-6 * direction) - fn(a - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(slope.detach().numpy(), want.detach().numpy(), rtol=1e-5, atol=1e-7)


MAPPED = {
    "inv": (la.inv, [(3, 3)]), "inv of batches": (la.inv, [(2, 3, 3)]), "solve": (la.solve, [(3, 3), (3, 2)]),
    "solve broadcast": (la.solve, [(2, 3, 3), (3, 2)]), "solve_triangular": (lambda a, b: la.solve_triangular(a, b, upper=True),
                                                                            [(3, 3), (3, 2)]),
    "svd": (lambda a: la.svd(a).S, [(4, 3)]), "eigh": (lambda a: la.eigh(a + a.mT).eigenvalues, [(3, 3)]),
    "qr": (lambda a: la.qr(a, mode="r").R, [(4, 3)]),
    "lu_solve": (lambda a, b: la.lu_solve(*la.lu_factor(a), b), [(3, 3), (3, 2)]),
    "ldl_solve": (lambda a, b: la.ldl_solve(*la.ldl_factor(a + a.mT), b), [(3, 3), (3, 2)]),
    "lstsq": (lambda a, b: la.lstsq(a, b).solution, [(4, 3), (4, 2)]), "det": (la.det, [(3, 3)]),
    "pinv": (la.pinv, [(4, 3)]), "fft2": (ft.fft.fft2, [(4, 3)]), "irfftn": (lambda a: ft.fft.irfftn(a, dim=(1, 0)), [(4, 3)]),
    "gradient": (ft.func.grad(lambda a: ft.slogdet(a).logabsdet), [(3, 3)]),
}


@pytest.mark.parametrize("which", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("name", MAPPED)
def test_vmap_is_a_loop(name: str, which: tuple[bool, bool]) -> None:
    fn, shapes = MAPPED[name]
    if len(shapes) == 1 and not all(which):
        return
    batched = which[:len(shapes)]
    operands = [random((5, *s) if b else s, seed=i) for i, (s, b) in enumerate(zip(shapes, batched))]
    got = ft.func.vmap(fn, in_dims=tuple(0 if b else None for b in batched))(*operands)
    want = ft.stack([fn(*[x[k] if b else x for x, b in zip(operands, batched)]) for k in range(5)])
    close(got, want, "float64")
