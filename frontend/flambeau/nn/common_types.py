"""Types of arguments that are one value or one for each dimension (PyTorch: ``torch.nn.common_types``), for annotations."""

from __future__ import annotations

from typing import Union

from flambeau.runtime.tensor import Tensor

_size_any_t = Union[int, tuple[int, ...]]  # noqa: UP007 - evaluated, and so written as Python 3.10 and isinstance want it
_size_1_t = Union[int, tuple[int]]  # noqa: UP007
_size_2_t = Union[int, tuple[int, int]]  # noqa: UP007
_size_3_t = Union[int, tuple[int, int, int]]  # noqa: UP007
_size_4_t = Union[int, tuple[int, int, int, int]]  # noqa: UP007
_size_5_t = Union[int, tuple[int, int, int, int, int]]  # noqa: UP007
_size_6_t = Union[int, tuple[int, int, int, int, int, int]]  # noqa: UP007
_size_any_opt_t = Union[int, None, tuple[Union[int, None], ...]]  # noqa: UP007
_size_2_opt_t = Union[int, None, tuple[Union[int, None], Union[int, None]]]  # noqa: UP007
_size_3_opt_t = Union[int, None, tuple[Union[int, None], Union[int, None], Union[int, None]]]  # noqa: UP007
_ratio_any_t = Union[float, tuple[float, ...]]  # noqa: UP007
_ratio_2_t = Union[float, tuple[float, float]]  # noqa: UP007
_ratio_3_t = Union[float, tuple[float, float, float]]  # noqa: UP007
_tensor_list_t = Union[Tensor, tuple[Tensor, ...]]  # noqa: UP007
_maybe_indices_t = Union[Tensor, tuple[Tensor, Tensor]]  # noqa: UP007
