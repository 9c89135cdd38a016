"""Compiled graphs as they run: the forward and its place on the tape, the backward, the epilogue.

Each is made of plain data, its *recipe* (nested tuples of numbers, texts, metas, ops), so that a later process makes the
same runner without the passes that found the data. :func:`recipe_of` asks a runner for its recipe, :func:`runner_of` makes
the runner again.
"""

from __future__ import annotations

import marshal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flambeau.ir.grad import zeros_of
from flambeau.ir.op import ops, state
from flambeau.runtime.autograd import GradMode, GradNode, Saved, edge_of, mode
from flambeau.runtime.code import GraphCode, PlanCode
from flambeau.runtime.executor import Executor
from flambeau.runtime.rng import default_generator
from flambeau.runtime.tensor import Tensor, tensor_meta

Runner = Callable[[Sequence[Tensor]], Sequence[Any]]
Recipe = tuple[Any, ...]


class NotKept(Exception):
    """Something that no later process can make again from data; says what."""


def recipe_of(run: Any) -> Recipe:
    """The data that ``runner_of`` makes this runner of. Raises :class:`NotKept` where there is none."""
    made = getattr(run, "recipe", None)
    if made is None:
        raise NotKept("a backend that keeps nothing of what it builds")
    return made()


def with_recipe(run: Any, recipe: Callable[[], Recipe]) -> Any:
    """The function ``run``, with the way to its recipe."""
    run.recipe = recipe
    return run


class Libraries:
    """Where recipes find what they name: built libraries, and the builder of a backward that no process has built yet."""

    def find(self, key: str, needs: tuple[str, ...]) -> Path:
        """The path of a library, with the templates that it needs at hand. Raises :class:`NotKept` if it is gone."""
        raise NotImplementedError

    def backward(self, name: str) -> Recipe | None:
        """The recipe of a backward that some process has built since."""
        raise NotImplementedError

    def build_backward(self, target: str, text: str, options: dict[str, Any]) -> Runner:
        raise NotImplementedError


def runner_of(recipe: Recipe, libraries: Libraries) -> Runner:
    """The runner that this recipe is of."""
    return _KINDS[recipe[0]](libraries, *recipe[1:])


# ---- a library ----------------------------------------------------------------------------------------------------


def executor_recipe(executor: Executor) -> Recipe:
    c = executor.code
    return ("library", executor.path.stem, executor.needs, c.constants, c.entries, c.words, c.arena,
            c.late_errors, marshal.dumps(executor.compiled))


def executor_runner(executor: Executor) -> Runner:
    """The executor's function, with the way to its recipe."""
    run: Any = with_recipe(executor.run, lambda: executor_recipe(executor))
    run.may_write = executor.code.late_errors  # new values of inputs may stand in their places before a later step raises
    return run


def _library(libraries: Libraries, key: str, needs: tuple[str, ...], constants: dict[str, Any], entries: tuple[Any, ...],
             words: int, arena: int | None, late_errors: bool, code: bytes) -> Runner:
    plan = PlanCode("", constants, entries, words, arena, late_errors)
    return executor_runner(Executor.of_code(libraries.find(key, needs), needs, plan, marshal.loads(code)))


# ---- a graph, op by op --------------------------------------------------------------------------------------------


class ByOps:
    """A graph that runs op by op; its function is compiled when it is first called."""

    def __init__(self, code: Callable[[], GraphCode]) -> None:
        self.code = code
        self.function: Callable[..., tuple] | None = None

    def __call__(self, inputs: Sequence[Any]) -> tuple:
        run = self.function
        if run is None:
            run = self.function = self.code().function()
        return run(*inputs)

    def recipe(self) -> Recipe:
        return "ops", self.code()

    @staticmethod
    def of(recipe: Recipe | None) -> ByOps | None:
        return None if recipe is None else ByOps(_code_later(recipe[1]))


def _code_later(code: GraphCode | Callable[[], GraphCode]) -> Callable[[], GraphCode]:
    """A graph's code in a recipe: data from disk is read when it is needed."""
    return code if callable(code) else lambda: code


def _by_ops(libraries: Libraries, code: GraphCode | Callable[[], GraphCode]) -> Runner:
    return GraphRunner(_code_later(code)())


def GraphRunner(code: GraphCode) -> Runner:  # noqa: N802 - reads as what it makes
    """A function of a sequence that runs the graph op by op."""
    run = code.function()
    return with_recipe(lambda inputs: run(*inputs), lambda: ("ops", code))


# ---- what the program does besides computing values ---------------------------------------------------------------


def epilogue_runner(run: Runner, finish: ByOps, places: list[tuple[int, int]], written: list[int],
                    backs: list[tuple[int, int]], direct: Runner | None) -> Runner:
    """``run`` for the values, then ``finish`` on the real tensors; ``direct`` op by op where a written input has an alias.

    ``places``: what ``finish`` takes, as (0, number of an input) or (1, number of an output). ``backs``: (input, output)
    pairs of inputs whose new values are outputs.
    """
    may_write = bool(backs) and getattr(run, "may_write", False)

    def pick(inputs: Sequence[Tensor], outputs: Sequence[Any]) -> list[Any]:
        return [outputs[i] if which else inputs[i] for which, i in places]

    def run_reading(inputs: Sequence[Tensor]) -> Sequence[Any]:
        return finish(pick(inputs, run(inputs)))

    def run_writing(inputs: Sequence[Tensor]) -> Sequence[Any]:
        if direct is not None and len(inputs) > 1 and _overlap(inputs, written):
            return direct(inputs)
        try:
            outputs = run(inputs)
        except Exception as error:
            error.__flambeau_unwritten__ = not may_write  # type: ignore[attr-defined] # see `rerun_unwritten`
            raise
        for i, j in backs:
            target, value = inputs[i], outputs[j]
            if target._a is not value._a:  # else the plan has written there itself
                target._a[...] = value._a
            target._storage.version += 1
        return finish(pick(inputs, outputs))

    return run_writing if written else run_reading


def spent_runner(run: Runner, spent: list[int]) -> Runner:
    """``run``, whose results at these positions have a history that was freed on the way."""
    def run_freed(inputs: Sequence[Tensor]) -> Sequence[Any]:
        results = run(inputs)
        for i in spent:
            t = results[i]
            if not t._rg:  # (op by op the real tape was freed)
                t._rg, t._grad_fn = True, SpentBackward([], [tensor_meta(t)])
        return results

    return run_freed


def row_major_runner(usual: Runner, by_op: ByOps, laid_out: list[int]) -> Runner:
    """``usual`` where these inputs are row-major, else op by op."""
    return lambda inputs: (usual(inputs) if all(inputs[i].is_contiguous() for i in laid_out) else by_op(inputs))


def _overlap(inputs: Sequence[Tensor], written: list[int]) -> bool:
    """Whether a written input shares its storage with another input."""
    storages = [id(t._storage) for t in inputs]
    return len(set(storages)) < len(storages) and any(storages.count(storages[i]) > 1 for i in written)


class Ending:
    """What follows on the values of a functional graph, whatever computes them."""

    def __init__(self, finish: ByOps | None, places: list[tuple[int, int]], written: list[int],
                 backs: list[tuple[int, int]], spent: list[int], direct: ByOps | None, laid_out: list[int],
                 by_op: ByOps | None) -> None:
        self.finish, self.places, self.written, self.direct = finish, places, written, direct
        self.backs, self.spent, self.laid_out, self.by_op = backs, spent, laid_out, by_op

    def after(self, run: Runner) -> Runner:
        """``run`` followed by the ending."""
        direct = None if self.direct is None else undone(self.direct, self.written, True, True, True)  # it may refuse to write
        found = run if self.finish is None else epilogue_runner(run, self.finish, self.places, self.written, self.backs, direct)
        found = spent_runner(found, self.spent) if self.spent else found
        return found if self.by_op is None else row_major_runner(found, self.by_op, self.laid_out)

    def recipe(self) -> Recipe:
        parts = [None if p is None else p.recipe() for p in (self.finish, self.direct, self.by_op)]
        return parts[0], self.places, self.written, self.backs, self.spent, parts[1], self.laid_out, parts[2]

    @staticmethod
    def of(recipe: Recipe) -> Ending:
        finish, places, written, backs, spent, direct, laid_out, by_op = recipe
        return Ending(ByOps.of(finish), places, written, backs, spent, ByOps.of(direct), laid_out, ByOps.of(by_op))


def ended(run: Runner, ending: Ending) -> Runner:
    """``run`` and its ending as one runner."""
    whole = ending.after(run)
    if whole is run:
        return run
    return with_recipe(whole, lambda: ("ended", recipe_of(run), ending.recipe()))


def _ended(libraries: Libraries, run: Recipe, ending: Recipe) -> Runner:
    return ended(runner_of(run, libraries), Ending.of(ending))


# ---- surroundings -------------------------------------------------------------------------------------------------


def apart(run: Runner) -> Runner:
    """``run`` outside the region of autocast that it is called in: the graph's casts are its own."""
    def run_apart(inputs: Sequence[Tensor]) -> Sequence[Any]:
        around, state.handler = state.handler, type(state).handler
        try:
            return run(inputs)
        finally:
            state.handler = around

    return _around(run_apart, run, "apart")


def recording(run: Runner) -> Runner:
    """``run`` with gradients wherever it is called: a graph that was traced under ``no_grad()`` and asks for them within."""
    def run_recording(inputs: Sequence[Tensor]) -> Sequence[Any]:
        with GradMode(True):
            return run(inputs)

    return _around(run_recording, run, "recording")


def ordered(run: Runner, orders: list[tuple[int, tuple[int, ...]]]) -> Runner:
    """``run``, whose results of these numbers lie in memory in these orders of their dimensions, as in the program."""
    def run_ordered(inputs: Sequence[Tensor]) -> Sequence[Any]:
        found = list(run(inputs))
        for i, order in orders:
            found[i] = _in_order(found[i], order)
        return found

    return _around(run_ordered, run, "ordered", orders)


def _in_order(t: Tensor, order: tuple[int, ...]) -> Tensor:
    order = tuple(d for d in order if t._a.shape[d] != 1)
    if memory_order(t._a) == order:
        return t
    dims = (*(d for d in range(t.ndim) if d not in order), *order)
    return _bare(ops.permute(ops.contiguous(ops.permute(t, dims)), tuple(map(dims.index, range(t.ndim)))))


def memory_order(array: Any) -> tuple[int, ...]:
    """The dimensions of an array from the widest stride to the narrowest; those that do not step are left out."""
    return tuple(sorted((d for d in range(array.ndim) if array.shape[d] != 1 and array.strides[d]),
                        key=lambda d: -array.strides[d]))


def undone(run: Runner, copied: list[int], drawn: bool, in_order: bool, written: bool) -> Runner:
    """``run``, of which nothing is left where it raises (see `undo`). ``copied`` numbers the inputs that it writes to as it goes,
    ``drawn`` says whether it draws random numbers, ``written`` whether it writes to inputs at all, ``in_order`` as it goes."""
    def run_undone(inputs: Sequence[Tensor]) -> Sequence[Any]:
        before = [_as_it_was(inputs[k]) for k in copied]
        mark = default_generator().mark() if drawn else None
        try:
            return run(inputs)
        except Exception as error:
            for t, version, array, *tape in before:
                if t._storage.version != version:
                    t._a[...] = array
                    _put_back(t, *tape)
            unwritten = in_order or not written or getattr(error, "__flambeau_unwritten__", False)
            if mark is not None and unwritten:
                default_generator().back_to(mark)
            error.__flambeau_unwritten__ = unwritten  # type: ignore[attr-defined] # see `rerun_unwritten`
            raise

    return _around(run_undone, run, "undone", copied, drawn, in_order, written)


def _as_it_was(t: Any) -> tuple[Any, ...]:
    base = None if t._view is None else t._view.base
    return t, t._storage.version, t._a.copy(), _place(t), base, None if base is None else _place(base)


def _place(t: Any) -> tuple[Any, ...]:
    """Where a tensor is on the tape."""
    return t._rg, t._grad_fn, t._out_nr


def _put_back(t: Any, place: tuple[Any, ...], base: Any, place_of_base: tuple[Any, ...]) -> None:
    t._rg, t._grad_fn, t._out_nr = place
    if base is not None:
        base._rg, base._grad_fn, base._out_nr = place_of_base


def _around(outer: Any, run: Any, kind: str, *facts: Any) -> Runner:
    outer.within, outer.may_write = run, getattr(run, "may_write", False)
    return with_recipe(outer, lambda: (kind, recipe_of(run), *facts))


def innermost(run: Any) -> Any:
    """What runs the graph within such surroundings."""
    while hasattr(run, "within"):
        run = run.within
    return run


# ---- training -----------------------------------------------------------------------------------------------------


class Training:
    """A forward that puts its results on the tape.

    ``tangents`` numbers the outputs that have gradients, ``wanted`` the inputs that get one; ``places`` says where the
    backward's saved values come from: (is an output, position). ``again`` numbers the inputs that a second derivative
    starts from, ``protected`` those that the epilogue overwrites although a gradient depends on what they were.
    """

    n_inputs: int
    n_outputs: int
    tangents: tuple[int, ...]
    wanted: tuple[int, ...]
    places: list[tuple[bool, int]]
    only_sizes: tuple[int, ...] = ()  # positions in ``places`` of values whose sizes alone the backward reads
    protected: list[int]
    again: tuple[int, ...]
    random: bool
    symbolic: bool
    metas: list[Any]  # of the outputs in ``tangents``
    input_metas: list[Any]
    run_forward: Runner
    epilogue: Runner
    ending: Ending
    _run_backward: Runner | None = None
    _joint_function: Callable[..., tuple] | None = None

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.kept_as = ""  # the name under which a process that reads the recipe looks for the backward
        self.keep_backward: Callable[[str, Recipe], None] | None = None

    def __call__(self, inputs: Sequence[Tensor]) -> Sequence[Any]:
        return self.epilogue(inputs)

    def run_values(self, inputs: Sequence[Tensor]) -> Sequence[Any]:
        """The functional graph's outputs, on the tape."""
        if not mode.grad:
            return self.run_forward(inputs)[:self.n_outputs]
        held = list(inputs)
        for i in self.protected:
            held[i] = _copy_with_history(inputs[i])
        state = default_generator().get_state() if self.random else None
        outs = self.run_forward(inputs)
        node = CompiledBackward(self, inputs, held, outs, state)
        results = list(outs[:self.n_outputs])
        for nr, i in enumerate(self.tangents):
            t = results[i]
            t._rg, t._grad_fn, t._out_nr = True, node, nr
        return results

    def backward(self, saved: list[Tensor], grads: list[Tensor]) -> Sequence[Any]:
        run = self._run_backward
        if run is None:
            with self._lock:
                run = self._run_backward
                if run is None:
                    run = self._run_backward = self._build_backward()
                    self.offer_backward()
        return run([*saved, *grads])

    def offer_backward(self) -> None:
        """Keep the backward beside a forward that is kept."""
        if self.keep_backward is not None and self._run_backward is not None:
            try:
                self.keep_backward(self.kept_as, recipe_of(self._run_backward))
            except NotKept:
                pass

    def recorded_joint(self) -> Callable[..., tuple]:
        """The joint graph as a function that records its backward part on the tape."""
        if self._joint_function is None:
            self._joint_function = self._joint_code().function()
        return self._joint_function

    def _joint_code(self) -> GraphCode:
        raise NotImplementedError

    def _build_backward(self) -> Runner:
        raise NotImplementedError

    def _backward_text(self) -> tuple[str, str, dict[str, Any]]:
        """The target's name, the backward graph's text and the options: what a later process builds it from."""
        raise NotImplementedError

    def recipe(self) -> Recipe:
        facts = {name: getattr(self, name) for name in _FACTS}
        facts["metas"], facts["input_metas"] = ([], []) if self.symbolic else (self.metas, self.input_metas)
        backward = None if self._run_backward is None else recipe_of(self._run_backward)
        return ("training", facts, recipe_of(self.run_forward), self.ending.recipe(), backward,
                None if backward is not None else self._backward_text(), self._joint_code())


_FACTS = ("n_inputs", "n_outputs", "tangents", "wanted", "places", "only_sizes", "protected", "again", "random", "symbolic")


class KeptTraining(Training):
    """A training graph made of its recipe."""

    def __init__(self, libraries: Libraries, facts: dict[str, Any], forward: Recipe, ending: Recipe, backward: Recipe | None,
                 text: tuple[str, str, dict[str, Any]] | None, joint: GraphCode | Callable[[], GraphCode]) -> None:
        super().__init__()
        self.__dict__.update(facts)
        self.run_forward = runner_of(forward, libraries)
        self.ending = Ending.of(ending)
        self.epilogue = self.ending.after(self.run_values)
        self._libraries, self._kept, self._text = libraries, backward, text
        self._joint_code = _code_later(joint)  # type: ignore[method-assign]

    def _build_backward(self) -> Runner:
        found = self._kept or self._libraries.backward(self.kept_as)
        if found is not None:
            try:
                run = runner_of(found, self._libraries)
                self.keep_backward = None
                return run
            except NotKept:
                pass
        assert self._text is not None
        return self._libraries.build_backward(*self._text)

    def _backward_text(self) -> tuple[str, str, dict[str, Any]]:
        assert self._text is not None
        return self._text


_KINDS: dict[str, Callable[..., Runner]] = {"library": _library, "ops": _by_ops, "ended": _ended, "training": KeptTraining,
                                        "undone": lambda libraries, run, *facts: undone(runner_of(run, libraries), *facts),
                                        "apart": lambda libraries, run: apart(runner_of(run, libraries)),
                                        "ordered": lambda libraries, run, *facts: ordered(runner_of(run, libraries), *facts),
                                        "recording": lambda libraries, run: recording(runner_of(run, libraries))}


_FREED = ("Trying to backward through the graph a second time (or directly access saved tensors after they have already been "
          "freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). Specify "
          "retain_graph=True if you need to backward through the graph a second time.")


class SpentBackward(GradNode):
    """The history of a result through which the compiled code has run ``backward`` itself."""

    def apply(self, grads: list[Any], needs: list[bool]) -> list[Any]:
        raise RuntimeError(_FREED)


class CompiledBackward(GradNode):
    """The tape's record of one run of a compiled forward."""

    __slots__ = ("owner", "held", "saved", "state")

    def __init__(self, owner: Training, given: Sequence[Tensor], inputs: list[Tensor], outs: Sequence[Tensor],
                 state: Any) -> None:
        metas = [tensor_meta(outs[i]) for i in owner.tangents] if owner.symbolic else owner.metas
        super().__init__([edge_of(given[i]) for i in owner.wanted], metas)
        self.owner, self.state = owner, state
        kept = {i: Saved(inputs[i]) for i in owner.again}
        self.held: Any = [kept.get(i) for i in range(len(inputs))]
        self.saved: Any = [Saved(_bare(outs[i])) if is_output else kept[i] if i in kept else Saved(inputs[i])
                           for is_output, i in owner.places]

    def name(self) -> str:
        return "CompiledBackward"

    def apply(self, grads: list[Any], needs: list[bool]) -> list[Any]:
        if self.saved is None:
            raise RuntimeError(_FREED)
        full = [zeros_of(m) if g is None else g if g._a.shape == m.shape and g.dtype is m.dtype else _fitting(g, m, i)  # type: ignore[union-attr, arg-type]
                for i, (g, m) in enumerate(zip(grads, self.metas))]
        if mode.grad:
            return self._recorded(full)
        sizes = self.owner.only_sizes
        saved = [s.tensor if k in sizes else s.get(self) for k, s in enumerate(self.saved)]
        return list(self.owner.backward(saved, full))

    def _recorded(self, grads: list[Any]) -> list[Any]:
        """The gradients computed op by op on the tape, to be differentiated again."""
        owner = self.owner
        inputs = [zeros_of(owner.input_metas[i]) if s is None else s.get(self) for i, s in enumerate(self.held)]
        run = owner.recorded_joint()
        if self.state is None:
            return list(run(*inputs, *grads)[owner.n_outputs:])
        generator = default_generator()
        now = generator.get_state()
        generator.set_state(self.state)  # the same random numbers as in the forward
        try:
            return list(run(*inputs, *grads)[owner.n_outputs:])
        finally:
            generator.set_state(now)

    def release(self) -> None:
        self.held = self.saved = self.state = None


def _fitting(g: Tensor, meta: Any, i: int) -> Tensor:
    """A gradient as compiled code takes it; one of another shape comes of data assigned to the result (``result.data = ...``)."""
    if tuple(g.shape) != tuple(meta.shape):
        raise RuntimeError(f"CompiledBackward got an invalid gradient at index {i} - got {list(g.shape)} but expected shape "
                           f"compatible with {list(meta.shape)}")
    return g if g.dtype is meta.dtype else ops.cast(g, meta.dtype)


def _bare(t: Tensor) -> Tensor:
    """The same data without a place in the tape (which would be a cycle)."""
    found = Tensor(t._a, t._storage)
    found._dtype = t._dtype
    return found


def _copy_with_history(t: Tensor) -> Tensor:
    with GradMode(t._rg and t.grad_fn is None):  # gradients of a leaf go to the leaf, not to its copy
        copy = ops.clone(t)
    if copy._rg:
        return copy
    copy._rg, copy._grad_fn, copy._out_nr = t._rg, t.grad_fn, t._out_nr
    return copy
