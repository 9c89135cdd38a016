"""Linear algebra (PyTorch: ``torch.linalg``): the functions live with the ops, in ``ir/ops/linalg_*.py``."""

from __future__ import annotations

from flambeau.ir import late
from flambeau.ir.op import PUBLIC
from flambeau.ir.ops.linalg_common import LinAlgError

for _module in ("linalg_solve", "linalg_lu", "linalg_definite", "linalg_factor", "linalg_functions", "linalg_norms"):
    late.load_module(_module)
globals().update(PUBLIC["linalg"])
matmul = PUBLIC["torch"]["matmul"]

__all__ = ["LinAlgError", "matmul", *PUBLIC["linalg"]]
