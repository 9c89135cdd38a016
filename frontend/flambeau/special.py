"""Special functions (PyTorch: ``torch.special``), most of them under a second name."""

from __future__ import annotations

from flambeau.ir import late
from flambeau.ir.op import PUBLIC

late.load_module("special_functions")

_SAME = ("digamma", "erf", "erfc", "erfinv", "exp2", "expm1", "i0", "log1p", "log_softmax", "logit", "logsumexp", "polygamma",
         "round", "sinc", "softmax", "xlogy")
_RENAMED = {"digamma": "psi", "lgamma": "gammaln", "mvlgamma": "multigammaln", "sigmoid": "expit"}

globals().update({name: PUBLIC["torch"][name] for name in _SAME}, **PUBLIC["special"])
globals().update({new: PUBLIC["torch"][name] for name, new in _RENAMED.items()})

