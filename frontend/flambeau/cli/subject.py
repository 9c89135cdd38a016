"""What `dump` and `explain` look at: FILE.py:NAME and its inputs."""

from __future__ import annotations

import argparse
import ast
import importlib.machinery
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import flambeau
from flambeau.dropin import as_torch


class BadSubject(Exception):
    """The file, the name or the inputs cannot be used; the message says which and why."""


@dataclass(frozen=True)
class Subject:
    """A function or a Module, and the arguments to call it with."""

    name: str
    fn: Callable[..., Any]
    inputs: tuple[Any, ...]

    @property
    def has_parameters(self) -> bool:
        return isinstance(self.fn, flambeau.nn.Module) and any(p.requires_grad for p in self.fn.parameters())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that name a subject, shared by the commands."""
    parser.add_argument("subject", metavar="FILE.py:NAME",
                        help="a function, a Module, or a Module class that is constructed without arguments")
    parser.add_argument("--input", action="append", default=[], metavar="8x128:f32",
                        help="one per argument, in order: SHAPE:DTYPE (1-d: `8:f32`, a scalar tensor: `:f32`; integers "
                             "are 0 or 1, or below N with `8x16:i64<N`), or a Python literal. Without any, the file's "
                             "example_inputs() is called")


def load(text: str, inputs: Sequence[str]) -> Subject:
    """The subject named by FILE.py:NAME, with inputs from specs or from the file's `example_inputs()`.

    Raises:
        BadSubject: no such file or name, NAME is not callable, a malformed input, or no inputs to be had.
    """
    path, separator, name = text.rpartition(":")
    if not separator or not path:
        raise BadSubject(f"{text!r}: expected FILE.py:NAME, such as model.py:Net")
    as_torch()   # the file may be written for PyTorch
    flambeau.manual_seed(0)
    module = _load_module(path)
    try:
        fn = getattr(module, name)
    except AttributeError:
        public = [n for n, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module.__name__]
        raise BadSubject(f"{path} has no {name!r}; it defines {', '.join(public) or 'nothing callable'}") from None
    if isinstance(fn, type):
        fn = _construct(fn)
    if not callable(fn):
        raise BadSubject(f"{text}: {name} is a {type(fn).__name__}, not a function or a Module")
    return Subject(name, fn, tuple(map(parse_input, inputs)) if inputs else _example_inputs(module, path))


def _load_module(path: str) -> ModuleType:
    if not os.path.isfile(path):
        raise BadSubject(f"no such file: {path}")
    name = os.path.splitext(os.path.basename(path))[0]
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    loader = importlib.machinery.SourceFileLoader(name, path)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


def _construct(cls: type) -> Any:
    try:
        return cls()
    except TypeError as error:
        raise BadSubject(f"{cls.__name__} is constructed without arguments here, which failed: {error}. Name a "
                         "function or a Module object of the file instead, such as `model = Net(10)`.") from error


def _example_inputs(module: ModuleType, path: str) -> tuple[Any, ...]:
    if not hasattr(module, "example_inputs"):
        raise BadSubject(f"no inputs: give --input SHAPE:DTYPE for each argument, or define example_inputs() in {path}")
    found = module.example_inputs()
    return tuple(found) if isinstance(found, tuple | list) else (found,)


_SPEC = re.compile(r"(?P<shape>(\d+(x\d+)*)?):(?P<dtype>[a-z]+\d*)(<(?P<below>\d+))?")
_SHORT = {"b8": "bool", "u8": "uint8", "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64", "f16": "float16",
          "bf16": "bfloat16", "f32": "float32", "f64": "float64", "c64": "complex64", "c128": "complex128"}


def parse_input(text: str) -> Any:
    """A random tensor for `8x128:f32` (or `8:i64<100`), else the Python literal.

    Raises:
        BadSubject: neither of the two.
    """
    match = _SPEC.fullmatch(text)
    if match is None:
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            raise BadSubject(f"--input {text}: expected SHAPE:DTYPE such as 8x128:f32, or a Python literal") from None
    name = _SHORT.get(match["dtype"], match["dtype"])
    dtype = getattr(flambeau, name, None)
    if not isinstance(dtype, flambeau.dtype):
        raise BadSubject(f"--input {text}: unknown dtype {match['dtype']!r}; one of {', '.join(_SHORT)}")
    shape = tuple(map(int, match["shape"].split("x"))) if match["shape"] else ()
    if dtype.is_floating_point or dtype.is_complex:
        return flambeau.randn(shape, dtype=dtype)
    return flambeau.randint(int(match["below"] or 2), shape).to(dtype)
