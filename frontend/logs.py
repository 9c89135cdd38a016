"""What the compiler says while it works, as the program's author asks for it (PyTorch: `TORCH_LOGS`, `torch._logging`).

`FLAMBEAU_LOGS=graph_breaks,recompiles` prints these to stderr as they happen; so does `TORCH_LOGS`, for scripts that were
written for PyTorch. Each name is a logger below "flambeau", so `logging` can send it elsewhere.
"""
from __future__ import annotations

import os
import sys
from typing import Any

from flambeau.ir import stage as ir_stage

#: what can be asked for -> what it prints; the names are PyTorch's
ARTIFACTS = {
    "graph_breaks": "each break: its line, cause, cost and fix",
    "recompiles": "each recompile: the assumption that failed, its line, old and new value, and the edit that avoids it",
    "warm_start": "each version that is loaded from disk, and why one is not kept there",
    "guards": "the conditions under which each graph is used again",
    "graph_code": "each captured graph as Python",
    "bytecode": "the decoded instructions of each function that is captured",
    "aot_graphs": "the joint, forward and backward graphs",
    "schedule": "which loops are fused, and why",
    "output_code": "the generated code",
}
_ALIASES = {"graph": "graph_code", "aot_joint_graph": "aot_graphs", "fusion": "schedule", "recompiles_verbose": "recompiles",
            "kernel_code": "output_code"}
_GROUPS = {"dynamo": ("graph_breaks", "recompiles", "graph_code", "guards"), "all": tuple(ARTIFACTS)}
_OF_STAGE = {"joint": "aot_graphs", "forward": "aot_graphs", "backward": "aot_graphs", "schedule": "schedule",
             "cpp": "output_code", "numpy": "output_code", "triton": "output_code"}
_OF_EVENT = {"break": "graph_breaks", "recompile": "recompiles", "fallback": "recompiles"}

wanted: set[str] = set()
_INFO = 20                                                        # logging.INFO


def _to_stderr() -> Any:
    """A handler that writes to what `sys.stderr` is at the time."""
    import logging  # noqa: PLC0415 - who asks for no messages starts sooner without it

    class Stderr(logging.StreamHandler):                           # type: ignore[type-arg]  # no generic in 3.10
        def __init__(self) -> None:
            logging.Handler.__init__(self)

        @property
        def stream(self) -> Any:                                  # type: ignore[override]
            return sys.stderr

    return Stderr()


def set_logs(**settings: Any) -> None:
    """Ask for messages, replacing what was asked before: `set_logs(graph_breaks=True)` (PyTorch: `torch._logging.set_logs`).

    Names are those of `ARTIFACTS`; `dynamo` and `all` stand for several, with True or a level up to `logging.INFO`.

    Raises:
        ValueError: an unknown name.
    """
    wanted.clear()
    for name, value in settings.items():
        _ask(name, value if isinstance(value, bool) else value is not None and value <= _INFO)
    _attach()


def from_environment(text: str, strict: bool) -> None:
    """Ask for what a comma-separated list names, "+" or "-" before a name meaning more or less of it."""
    for item in filter(None, (part.strip() for part in text.split(","))):
        try:
            _ask(item.lstrip("+-"), not item.startswith("-"))
        except ValueError:
            if strict:
                raise
    _attach()


def _ask(name: str, on: bool) -> None:
    name = _ALIASES.get(name, name)
    if name not in ARTIFACTS and name not in _GROUPS:
        raise ValueError(f"unknown log {name!r}: choose among {', '.join([*ARTIFACTS, *_GROUPS])}")
    if on:
        wanted.update(_GROUPS.get(name, (name,)))


def _attach() -> None:
    if any(artifact in wanted for artifact in _OF_STAGE.values()) and stage not in ir_stage.watchers:
        ir_stage.watchers.append(stage)
    if not wanted:
        return
    import logging  # noqa: PLC0415 - see above
    root = logging.getLogger("flambeau")
    if not root.handlers:
        root.addHandler(_to_stderr())
        root.handlers[0].setFormatter(logging.Formatter("[%(artifact)s] %(message)s"))
        root.setLevel(logging.INFO)
        root.propagate = False


def say(artifact: str, text: str) -> None:
    """Print `text` if `artifact` is wanted."""
    if artifact in wanted:
        import logging  # noqa: PLC0415 - see above
        logging.getLogger(f"flambeau.{artifact}").info("%s", text, extra={"artifact": artifact})


def event(kind: str, line: str, function: str, text: str, captured: Any) -> None:
    """An event of a compiled function."""
    if not wanted:
        return
    if kind in _OF_EVENT:
        say(_OF_EVENT[kind], f"{function} ({line}): {text}")
    elif kind == "loaded":
        say("warm_start", f"{function}: {text}")
    elif kind == "graph" and captured is not None:
        say("graph_code", f"{function} ({line})\n{text}")
        say("guards", f"{function} ({line})\n{captured.guards}")


def stage(name: str, thing: Any) -> None:
    """A stage of a compile has passed (`ir.stage` calls this while it is among its watchers)."""
    artifact = _OF_STAGE.get(name)
    if artifact in wanted:
        say(artifact, f"{name}\n{thing}")


from_environment(os.environ.get("FLAMBEAU_LOGS", ""), strict=True)
from_environment(os.environ.get("TORCH_LOGS", ""), strict=False)
