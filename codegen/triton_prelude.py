"""Functions that generated Triton text may call: what Triton and its device library lack, or mean otherwise.

A kernel's text brings those it calls. The ops' spellings name them as they name Triton's own (``Scalar.triton``); those in
two versions end in ``{kind}``, which is "float" or "int". No op has the name of one of them: kernels have ops' names.
"""

from __future__ import annotations

import re
from textwrap import dedent, indent

#: name -> (parameters, body)
FUNCTIONS: dict[str, tuple[str, str]] = {}


def _function(name: str, parameters: str, body: str) -> None:
    FUNCTIONS[name] = parameters, indent(dedent(body).strip(), "    ")


def functions_called(text: str) -> set[str]:
    """The functions of this prelude that ``text`` calls."""
    return set(re.findall(r"(?<![\w.])(\w+)\(", text)) & FUNCTIONS.keys()


def definition(name: str) -> str:
    """The text of one function."""
    parameters, body = FUNCTIONS[name]
    return f"@triton.jit\ndef {name}({parameters}):\n{body}\n\n"


# ---- choosing: NaN wins every comparison

_function("largest", "a, b", "return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)")
_function("smallest", "a, b", "return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)")
_function("product", "a, b", "return a * b")
for _name, _sign in (("first_largest", ">"), ("first_smallest", "<")):
    _function(_name, "a, i, b, j", f"""
        take = (a {_sign} b) | ((a != a) & (b == b)) | (((a == b) | ((a != a) & (b != b))) & (i < j))
        return tl.where(take, a, b), tl.where(take, i, j)
    """)

# ---- whole division and what is left: Triton's // and % of integers round towards zero

_function("floor_div", "a, b", "return a // b - tl.where((a % b != 0) & ((a < 0) != (b < 0)), 1, 0)")
_function("floor_mod", "a, b", "return a % b + tl.where((a % b != 0) & ((a < 0) != (b < 0)), b, 0)")
_function("divide_down_int", "a, b", """
    quotient = a // b
    return (quotient - tl.where((quotient * b != a) & ((a < 0) != (b < 0)), 1, 0)).to(quotient.dtype)
""")
# From the exact remainder, as Python does it, so that 1 // 0.1 is 9.
_function("divide_down_float", "a, b", """
    ratio = a / b
    rest = libdevice.fmod(a, b)
    quotient = (a - rest) / b
    quotient = tl.where((rest != 0) & ((rest < 0) != (b < 0)), quotient - 1, quotient)
    whole = tl.floor(quotient)
    whole = tl.where(quotient - whole > 0.5, whole + 1, whole)
    return tl.where(b == 0, ratio, tl.where(quotient == 0, libdevice.copysign(quotient, ratio), whole))
""")
_function("divide_to_zero_int", "a, b", "return a // b")
_function("divide_to_zero_float", "a, b", "return libdevice.trunc(a / b)")
_function("modulo_to_zero_int", "a, b", "return a % b")
_function("modulo_to_zero_float", "a, b", "return libdevice.fmod(a, b)")
_function("modulo_down_int", "a, b", """
    rest = a % b
    return tl.where((rest != 0) & ((rest < 0) != (b < 0)), rest + b, rest)
""")
_function("modulo_down_float", "a, b", """
    rest = libdevice.fmod(a, b)
    return tl.where((rest != 0) & ((rest < 0) != (b < 0)), rest + b, rest)
""")

# ---- powers and roots

# By squaring; what overflows wraps, as it does on the CPU.
_function("power_int", "a, b", """
    result = a * 0 + 1
    for _ in range(63):
        result = tl.where((b & 1) != 0, result * a, result)
        a = a * a
        b = b >> 1
    return result
""")
_function("power_float", "a, b", "return libdevice.pow(a, b)")
_function("square_root", "x", """
    if x.dtype == tl.float64:
        result = tl.sqrt(x)
    else:
        result = tl.sqrt_rn(x)
    return result
""")
