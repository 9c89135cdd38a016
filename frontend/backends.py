"""What ``compile(backend=...)`` may name: the targets, eager execution, and any callable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .runners import GraphRunner, Runner

if TYPE_CHECKING:  # what compiles is imported by the first graph there is to compile
    from flambeau.ir.graph import Graph
    from flambeau.ir.op import Op

#: (graph, example inputs, options, fullgraph) -> function of the graph's inputs (a sequence) that returns its outputs.
Backend = Callable[["Graph", Sequence[Any], dict[str, Any], bool], Runner]


class GraphModule:
    """A captured graph as a callable, for backends written by users (PyTorch: ``torch.fx.GraphModule``).

    ``graph`` is the graph, ``code`` its text; calling it (or ``forward``) runs it op by op on the tape.
    """

    def __init__(self, graph: Graph) -> None:
        from flambeau.runtime.graphs import graph_function  # noqa: PLC0415 - see above

        self.graph = graph
        self.forward = graph_function(graph)

    def __call__(self, *inputs: Any) -> tuple:
        return self.forward(*inputs)

    @property
    def code(self) -> str:
        return str(self.graph)

    def print_readable(self) -> str:
        """Print the graph's text, and return it."""
        print(self.code)
        return self.code


class EagerTarget:
    """Builds nothing: the forward and backward graphs run op by op, composites with a kernel whole."""

    name = "aot_eager"

    @staticmethod
    def keep(op: Op) -> bool:
        return op.kernel is not None

    @staticmethod
    def build(graph: Graph, options: dict[str, Any]) -> Runner:
        return _by_ops(graph, recorded=False)


def _by_ops(graph: Graph, recorded: bool = True) -> Runner:
    from flambeau.runtime.graphs import graph_code  # noqa: PLC0415 - see above
    return GraphRunner(graph_code(graph, recorded))


def _eager(graph: Graph, examples: Sequence[Any], options: dict[str, Any], fullgraph: bool) -> Runner:
    return _by_ops(graph)


def _aot_eager(graph: Graph, examples: Sequence[Any], options: dict[str, Any], fullgraph: bool) -> Runner:
    return _ahead_of_time(EagerTarget(), graph, examples, options, fullgraph)


def _triton(graph: Graph, examples: Sequence[Any], options: dict[str, Any], fullgraph: bool) -> Runner:
    from flambeau.frontend.triton import TritonTarget  # noqa: PLC0415 - its code generator is needed by nobody else
    return _ahead_of_time(TritonTarget(), graph, examples, options, fullgraph)


def _cpp(graph: Graph, examples: Sequence[Any], options: dict[str, Any], fullgraph: bool) -> Runner:
    from .targets import cpp_target  # noqa: PLC0415 - see above
    return _ahead_of_time(cpp_target(), graph, examples, options, fullgraph)


def _numpy(graph: Graph, examples: Sequence[Any], options: dict[str, Any], fullgraph: bool) -> Runner:
    from .targets import NumpyTarget  # noqa: PLC0415 - see above
    return _ahead_of_time(NumpyTarget(), graph, examples, options, fullgraph)


def _ahead_of_time(target: Any, graph: Graph, examples: Sequence[Any], options: dict[str, Any], fullgraph: bool) -> Runner:
    from .aot import compile_graph  # noqa: PLC0415 - see above
    lasting = frozenset(i for i, x in enumerate(examples) if getattr(x, "_is_param", False))
    return compile_graph(graph, target, options, fullgraph, lasting)


def user_backend(compiler: Callable[..., Any]) -> Backend:
    """A backend of a user's ``(graph_module, example_inputs) -> callable``."""
    def backend(graph: Graph, examples: Sequence[Any], options: dict[str, Any], fullgraph: bool) -> Runner:
        run = compiler(GraphModule(graph), list(examples), **({"options": options} if options else {}))

        def call(inputs: Sequence[Any]) -> tuple:
            found = run(*inputs)
            return tuple(found) if isinstance(found, (tuple, list)) else (found,)

        return call

    return backend


_backends: dict[str, Backend] = {"eager": _eager, "aot_eager": _aot_eager, "cpp": _cpp, "inductor": _cpp, "numpy": _numpy,
                                 "triton": _triton}


#: The backends whose work a later process may use, by the name under which it is kept.
KEPT: dict[Backend, str] = {_eager: "eager", _aot_eager: "aot_eager", _cpp: "cpp"}


def writes_at_last(backend: Any) -> bool:
    """Whether graphs of this backend write to what is the program's when all values are known, not as they go."""
    return backend in (_aot_eager, _cpp, _numpy, _triton)


def register_backend(compiler: Callable[..., Any] | None = None, name: str | None = None) -> Any:
    """Enter a user's backend under ``name`` (default: the function's); also usable as a decorator."""
    if compiler is None:
        return lambda fn: register_backend(fn, name)
    _backends[name or compiler.__name__] = user_backend(compiler)
    return compiler


def list_backends() -> list[str]:
    """The names that ``compile(backend=...)`` knows."""
    return sorted(_backends)


def lookup(backend: Any) -> Backend:
    """The backend for a name or callable. Raises ``ValueError`` for an unknown name."""
    if callable(backend):
        return user_backend(backend)
    found = _backends.get(backend)
    if found is None:
        raise ValueError(f"Invalid backend: {backend!r}. Known backends: {', '.join(list_backends())}")
    return found
