"""A symbolic frame: locals, cells, value stack, and where exceptions go."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace.decode import Instr, Program
from flambeau.frontend.trace.values import NONE, NULL_VALUE, Const, Observed, Value

if TYPE_CHECKING:
    from flambeau.frontend.trace.callables import CellValue, FunctionValue
    from flambeau.frontend.trace.interp import Tracer


class Frame:
    """One activation of `program`. `ip` is the index of the next instruction."""

    def __init__(self, program: Program, globals: dict[str, Any], locals: dict[str, Value],
                 cells: dict[str, CellValue], function: FunctionValue | None = None) -> None:
        self.program, self.code, self.globals = program, program.code, globals
        self.locals, self.cells, self.function = locals, cells, function
        self.stack: list[Value] = []
        self.blocks: list[tuple[int, int]] = []      # 3.10: (handler index, stack level); handler -1 marks a handler
        self.handled: list[Value] = []               # exceptions being handled, innermost last
        self.ip = 0
        self.current: Instr = program.instrs[0]
        self.started = False
        self.raised_at, self.raised_line = 0, ""     # step and line of the exception being handled

    # ---- stack

    def push(self, value: Value) -> None:
        self.stack.append(value)

    def pop(self) -> Value:
        return self.stack.pop()

    def popn(self, n: int) -> list[Value]:
        if not n:
            return []
        taken = self.stack[-n:]
        del self.stack[-n:]
        return taken

    @property
    def line(self) -> int:
        return self.current.line or self.code.co_firstlineno

    # ---- exceptions

    def unwind(self, tr: Tracer, error: Observed, ins: Instr) -> bool:
        """Go to the handler of an exception raised at `ins`; False if this frame has none."""
        if self.blocks:
            return self._unwind_blocks(tr, error)
        if ins.handler is None:
            return False
        del self.stack[ins.handler.depth:]
        if ins.handler.push_lasti:
            self.push(Const(ins.offset // 2))
        self.push(error.value)
        self.ip = ins.handler.target
        return True

    def _unwind_blocks(self, tr: Tracer, error: Observed) -> bool:
        """3.10: pop blocks; a handler sees (old and new) traceback, value and type on the stack."""
        while self.blocks:
            target, level = self.blocks.pop()
            if target < 0:                           # an exception inside a handler: drop what it had saved
                del self.stack[level + 3:]
                self.pop_handled()
                del self.stack[level:]
                continue
            del self.stack[level:]
            self.blocks.append((-1, level))
            old = self.handled[-1] if self.handled else NONE
            old_type = tr.class_value(old.pytype()) if self.handled else NONE
            for value in (NONE, old, old_type, NONE, error.value, tr.class_value(error.value.pytype())):
                self.push(value)
            self.handled.append(error.value)
            self.ip = target
            return True
        return False

    def handles(self, ins: Instr) -> bool:
        """Whether an exception at `ins` is handled here, by more than what turns StopIteration into RuntimeError (3.12)."""
        return ins.handler is not None and self.program.instrs[ins.handler.target].op != "STOP_ITERATION_ERROR"

    def pop_handled(self) -> None:
        if self.handled:
            self.handled.pop()

    def null(self) -> Value:
        return NULL_VALUE
