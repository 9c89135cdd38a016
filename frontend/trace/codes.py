"""The codes of graph breaks: what each stands for, and what to do where the raising place has no better advice.

Codes are stable: people search for them, and `docs/graph-breaks.md` has a section for each, with an example that breaks and
one that does not. Every `Unsupported` names one of them (a test reads the source), so a new way to break says here what it is.
"""
from __future__ import annotations

from typing import NamedTuple

PAGE = "docs/graph-breaks.md"


class Code(NamedTuple):
    """A kind of break: its title, the usual way around it, and what it costs besides the cut itself."""

    title: str
    fix: str
    cost: str = ""


_WAITS = "the data must be computed before Python can go on"
_OUTSIDE = "do it outside the compiled function and pass the result in"

CODES: dict[str, Code] = {
    "argument": Code("an op is given an object that exists only while the program runs",
                     "pass tensors, numbers, lists or tuples"),
    "async": Code("a coroutine is called", "await it outside the compiled function"),
    "attribute": Code("an attribute that C code computes is read", _OUTSIDE),
    "attribute-store": Code("an attribute is stored where stores cannot be replayed",
                            "keep state on an object of a Python class"),
    "autograd-mode": Code("the autograd mode is set in a way a graph does not record",
                          "set it around the call of the compiled function, or use no_grad()"),
    "builtin": Code("a function written in C is called", _OUTSIDE),
    "builtin-method": Code("a method written in C is called", _OUTSIDE),
    "cached": Code("a function that keeps its results reads state that may change",
                   "call it outside the compiled function, or leave out the cache"),
    "call": Code("something that cannot be followed is called", "call a Python function, a Module or an op"),
    "class": Code("a class is made", "define classes outside"),
    "class-store": Code("an attribute of a class is assigned", "keep state on instances"),
    "construct": Code("an object of a class written in C is made", "make it outside the compiled function"),
    "control-flow": Code("a function given to cond, while_loop, scan or map cannot be a graph of its own",
                         "return all that the function computes, of one shape and dtype in every branch and round"),
    "copy": Code("an object is copied that has state of its own",
                 "copy it outside the compiled function; clone() copies a tensor"),
    "custom-function": Code("an autograd.Function does what a graph cannot show",
                            "let forward return new tensors, and backward a gradient for each argument"),
    "data-dependent": Code("Python needs the data of a tensor",
                           "keep it a tensor, or move this line out of the compiled function",
                           _WAITS),
    "descriptor": Code("a kind of descriptor that is not followed is read", "use a method or a property"),
    "dict-key": Code("a dict key whose hash is not known", "use strings, numbers or tuples of them as keys"),
    "disabled": Code("a function marked with disable() is called", "remove disable(), or call it outside the compiled function"),
    "effect": Code("a setting of the library is changed", "set it before the compiled function is called"),
    "empty-cell": Code("a closure variable is read before it is assigned",
                       "assign it before the function that reads it is called"),
    "finalizer": Code("code would run when an object made in the traced code ends", "make it outside, or end it by a call"),
    "format": Code("the text of an object is asked", "format its numbers or strings, or define __str__ in Python"),
    "frame": Code("a function that looks at its caller's frame is called", "call it outside the compiled function",
                  "the rest of the function runs in the interpreter"),
    "globals": Code("globals() is called", "read the global by its name"),
    "hash": Code("a hash is asked that depends on the object's address", "use a key of strings or numbers"),
    "id": Code("id() of an object is asked", "compare objects with `is`"),
    "import": Code("a module is imported", "import it at the top of the file"),
    "index": Code("a container is indexed with an object of unknown value", "index with an int or a slice"),
    "inspect": Code("a signature is inspected", "inspect it outside the compiled function"),
    "instruction": Code("a Python instruction that is not traced", "move the statement into a function outside",
                        "the rest of the function runs in the interpreter"),
    "isinstance": Code("isinstance() with classes that are not known", "name the classes directly"),
    "iteration": Code("something is iterated whose items are not known",
                      "make a list of the items outside the compiled function"),
    "len": Code("a length is asked that is not known", _OUTSIDE),
    "module-store": Code("an attribute of a Python module is assigned", "keep state on an object"),
    "op": Code("an op that has no rule for symbolic inputs", "call it outside the compiled function"),
    "opaque": Code("an attribute of an object written in C is read", _OUTSIDE),
    "operator": Code("an operator between objects that do not have it in Python code", _OUTSIDE),
    "raises": Code("the program raises an exception", ""),
    "random": Code("a number is drawn from Python's own generator",
                   "draw it outside the compiled function, or with torch.rand, whose numbers the graph draws"),
    "rebuild": Code("an object made in the traced code must exist for real", "return or store plain lists, dicts and tuples"),
    "recursion": Code("calls are nested too deep", "use a loop, or compile the inner function by itself"),
    "set-order": Code("the order of a set is needed", "iterate sorted(the_set)"),
    "sharing": Code("a branch, a loop or a custom function returns memory of a tensor that is seen outside as well",
                    "return a clone()"),
    "sort": Code("items are sorted whose order is not known", "sort numbers or strings; torch.sort() sorts a tensor", _WAITS),
    "subscript": Code("something that cannot be followed is subscripted", _OUTSIDE),
    "tape": Code("a gradient leads out of the compiled function, or somebody outside sees it",
                 "compute it inside the compiled function, or call backward() outside"),
    "tensor-attribute": Code("an attribute of a tensor that only the real tensor has",
                             "read it before the call and pass it in", _WAITS),
    "tensor-operator": Code("an operator of Tensor was replaced by the program", "call a function of your own instead"),
    "tensor-store": Code("an attribute of a tensor made in the graph is assigned", "return the value beside the tensor"),
    "transform": Code("a tensor made inside vmap, grad or jvp is kept beyond it", "return it from the transformed function"),
    "truth": Code("the truth of an object is asked that is not known", "compare explicitly, such as with `is not None`"),
    "with": Code("a context manager that cannot be followed is entered", "enter it around the call of the compiled function"),
}


def cost_of(code: str, ops: int, native: bool) -> str:
    """What a break at this place costs: where the graph ends, what waits, who runs what follows."""
    special = CODES[code].cost if code in CODES else ""
    ends = f"the graph ends after {ops} op{'' if ops == 1 else 's'}" if ops else "no op before it is compiled"
    after = "" if special.startswith("the rest") or code == "raises" else \
        "the rest of the function runs in the interpreter" if native else "what follows is another graph"
    return ", ".join(part for part in (ends, special, after) if part)


def fix_for(code: str, fix: str) -> str:
    """The advice of the place that raised, else the usual one."""
    return fix or (CODES[code].fix if code in CODES else "")


def anchor(code: str) -> str:
    """Where the documents speak of it."""
    return f"{PAGE}#{code}"
