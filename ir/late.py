"""Ops that few programs use: their modules load when one of their names is first asked for.

``import flambeau`` may take no longer than twice ``import numpy``, and an op costs it 40 us. :data:`MODULES` says which
module of ``ir/ops`` publishes which names; a test holds the table equal to what the modules publish.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

#: module of ``ir/ops`` -> space ("ops": registered ops; "torch", "Tensor", "nn.functional": public names) -> names
MODULES: dict[str, dict[str, str]] = {
    "special_functions": {
        "torch": "igamma igammac",
        "Tensor": "igamma igamma_ igammac igammac_",
        "ops": "airy_ai airy_ai_prime bessel_j0 bessel_j1 bessel_y0 bessel_y1 chebyshev_polynomial_t "
               "chebyshev_polynomial_u chebyshev_polynomial_v chebyshev_polynomial_w entr erfcx hermite_polynomial_h "
               "hermite_polynomial_he i0e i1e igamma igammac laguerre_polynomial_l legendre_polynomial_p log_ndtr "
               "modified_bessel_i0 modified_bessel_i1 modified_bessel_k0 modified_bessel_k1 ndtr ndtri "
               "scaled_modified_bessel_k0 scaled_modified_bessel_k1 shifted_chebyshev_polynomial_t "
               "shifted_chebyshev_polynomial_u shifted_chebyshev_polynomial_v shifted_chebyshev_polynomial_w "
               "spherical_bessel_j0 xlog1py zeta",
    },
    "control": {
        "ops": "cond custom_function once scan while_loop while_loop_backward",
    },
    "copies": {
        "torch": "_chunk_cat alias_copy as_strided_copy as_strided_scatter detach_copy diagonal_copy empty_permuted "
                 "expand_copy nonzero_static permute_copy resize_as_ select_copy slice_copy split_copy "
                 "split_with_sizes_copy squeeze_copy t_copy transpose_copy unbind_copy unfold_copy unsafe_chunk "
                 "unsafe_split unsafe_split_with_sizes unsqueeze_copy view_as_complex_copy view_as_real_copy view_copy",
        "Tensor": "__rdiv__ as_strided_scatter new_empty_strided nonzero_static resize_as_ unsafe_chunk unsafe_split "
                  "unsafe_split_with_sizes",
        "ops": "nonzero_rows",
    },
    "native": {
        "torch": "_batch_norm_no_update _batch_norm_with_update _log_softmax_backward_data _native_batch_norm_legit "
                 "_softmax_backward_data _unsafe_masked_index _unsafe_masked_index_put_accumulate "
                 "_upsample_bicubic2d_aa _upsample_bilinear2d_aa grid_sampler grid_sampler_2d grid_sampler_3d "
                 "native_batch_norm native_dropout native_group_norm native_layer_norm",
    },
    "linalg_solve": {
        "ops": "linalg_inv linalg_inv_ex linalg_solve linalg_solve_ex linalg_solve_matrices linalg_solve_triangular "
              "triangular_solve",
        "torch": "inverse triangular_solve",
        "Tensor": "inverse triangular_solve",
        "linalg": "inv inv_ex solve solve_ex solve_triangular",
    },
    "linalg_lu": {
        "ops": "linalg_lu linalg_lu_factor_ex linalg_lu_solve linalg_lu_unpack linalg_permutation",
        "torch": "lu lu_solve lu_unpack",
        "Tensor": "lu lu_solve",
        "linalg": "lu lu_factor lu_factor_ex lu_solve",
    },
    "linalg_definite": {
        "ops": "cholesky cholesky_inverse cholesky_solve linalg_cholesky linalg_cholesky_ex linalg_ldl_factor_ex "
              "linalg_ldl_solve",
        "torch": "cholesky cholesky_inverse cholesky_solve",
        "Tensor": "cholesky cholesky_inverse cholesky_solve",
        "linalg": "cholesky cholesky_ex ldl_factor ldl_factor_ex ldl_solve",
    },
    "linalg_factor": {
        "ops": "geqrf linalg_eig linalg_eigh linalg_eigvals linalg_eigvalsh linalg_householder_product linalg_qr "
              "linalg_svd linalg_svdvals ormqr",
        "torch": "geqrf orgqr ormqr qr svd",
        "Tensor": "geqrf orgqr ormqr qr svd",
        "linalg": "eig eigh eigvals eigvalsh householder_product qr svd svdvals",
    },
    "linalg_functions": {
        "ops": "linalg_cofactors linalg_det linalg_lstsq_matrices linalg_matrix_exp linalg_matrix_power linalg_pinv "
              "linalg_slogdet logdet",
        "torch": "det logdet matrix_exp matrix_power pca_lowrank pinverse slogdet svd_lowrank",
        "Tensor": "det logdet matrix_exp matrix_power pinverse slogdet",
        "linalg": "det lstsq matrix_exp matrix_power matrix_rank multi_dot pinv slogdet tensorinv tensorsolve vander",
    },
    "linalg_norms": {
        "ops": "linalg_cond linalg_cross linalg_matrix_norm linalg_norm linalg_vecdot",
        "torch": "nuclear_norm",
        "linalg": "cond cross diagonal matrix_norm norm vecdot",
    },
    "fft": {
        "ops": "fft_c2c fft_c2r fft_r2c",
        "fft": "fft fft2 fftfreq fftn fftshift hfft hfft2 hfftn ifft ifft2 ifftn ifftshift ihfft ihfft2 ihfftn irfft "
              "irfft2 irfftn rfft rfft2 rfftfreq rfftn",
    },
    "spectral": {
        "ops": "istft_covered",
        "torch": "istft stft",
        "Tensor": "istft stft",
    },
    "draws": {
        "ops": "_dirichlet_grad _sample_dirichlet _standard_gamma _standard_gamma_grad binomial draw_binomial poisson",
        "torch": "_dirichlet_grad _sample_dirichlet _standard_gamma _standard_gamma_grad binomial poisson",
    },
    "window_functions": {
        "torch": "bartlett_window blackman_window hamming_window hann_window kaiser_window",
    },
    "statistics": {
        "torch": "gradient histogram histogramdd nanquantile quantile",
        "Tensor": "histogram nanquantile quantile",
        "ops": "histogram_counts histogram_edges",
    },
    "segments": {
        "torch": "_segment_reduce index_reduce segment_reduce",
        "Tensor": "index_reduce index_reduce_",
        "ops": "index_reduce segment_places",
    },
    "fractional": {
        "nn.functional": "fractional_max_pool2d fractional_max_pool2d_with_indices fractional_max_pool3d "
                         "fractional_max_pool3d_with_indices",
    },
    "linear_cross_entropy": {
        "nn.functional": "linear_cross_entropy",
        "ops": "linear_nll",
    },
    "more_names": {
        "torch": "affine_grid_generator alpha_dropout alpha_dropout_ arccos_ arccosh_ arcsin_ arcsinh_ arctan_ "
                 "arctanh_ as_strided_ clip_ conv_tbc convolution detach_ dropout_ feature_alpha_dropout "
                 "feature_alpha_dropout_ feature_dropout feature_dropout_ fix_ frobenius_norm gru instance_norm "
                 "is_distributed is_neg kl_div ldexp_ lstm native_channel_shuffle native_norm negative_ "
                 "norm_except_dim rnn_relu rnn_tanh",
        "Tensor": "apply_ dim_order float_power_ is_distributed is_neg is_set_to map2_ map_ polygamma_ resize resize_as",
        "nn.functional": "conv_tbc native_channel_shuffle",
    },
}

_loaded: set[str] = set()
_after: list[Callable[[], None]] = []


@functools.cache
def _homes() -> dict[tuple[str, str], str]:
    return {(space, name): module for module, spaces in MODULES.items() for space, names in spaces.items()
            for name in names.split()}


def load(space: str, name: str) -> bool:
    """Load the module that publishes ``name``; False where none does, or it is here already."""
    module = _homes().get((space, name))
    if module is None or module in _loaded:
        return False
    load_module(module)
    return True


def load_module(module: str) -> None:
    """Import one module of the table, and publish what comes with its ops (methods, in-place forms)."""
    if module in _loaded:
        return
    importlib.import_module(f"{__package__}.ops.{module}")
    _loaded.add(module)
    for publish in _after:
        publish()


def load_all() -> None:
    """Import every module of the table: for tests, which walk over all ops."""
    for module in MODULES:
        load_module(module)


def names(space: str) -> list[str]:
    """The names that the table's modules publish in ``space``."""
    return [name for home, name in _homes() if home == space]


def install(methods: dict[str, Any], *publish: Callable[[], None]) -> None:
    """Put methods into ``methods`` that load their module when called; ``publish`` runs after each load."""
    _after.extend(publish)
    for name in names("Tensor"):
        methods[name] = _method(name, methods)


class Later:
    """A module of ``ir`` that is imported when something of it is first asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        found = getattr(importlib.import_module(f"{__package__}.{self._name}"), name)
        setattr(self, name, found)
        return found


def _method(name: str, methods: dict[str, Any]) -> Any:
    def late(self: Any, *args: Any, **kwargs: Any) -> Any:
        load("Tensor", name)
        return methods[name](self, *args, **kwargs)

    late.__name__ = late.__qualname__ = name
    late.__flambeau_pure__ = late.__flambeau_late__ = True  # type: ignore[attr-defined]
    return late
