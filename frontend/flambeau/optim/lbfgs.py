"""L-BFGS (Nocedal & Wright, Numerical Optimization, chapters 3 and 7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import flambeau
from flambeau.runtime.autograd import GradMode
from flambeau.runtime.tensor import Tensor

from .optimizer import Optimizer


class LBFGS(Optimizer):
    """Quasi-Newton steps from the last ``history_size`` changes of the gradient (``torch.optim.LBFGS``).

    All parameters are one vector: there is one group. ``line_search_fn`` is None (steps of ``lr``) or ``"strong_wolfe"``.
    """

    def __init__(self, params: Iterable[Any], lr: Any = 1, max_iter: int = 20, max_eval: int | None = None,
                 tolerance_grad: float = 1e-7, tolerance_change: float = 1e-9, history_size: int = 100,
                 line_search_fn: str | None = None) -> None:
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        if not 0.0 <= lr:
            raise ValueError(f"Invalid learning rate: {lr}")
        super().__init__(params, dict(lr=lr, max_iter=max_iter, max_eval=max_iter * 5 // 4 if max_eval is None else max_eval,
                                      tolerance_grad=tolerance_grad, tolerance_change=tolerance_change,
                                      history_size=history_size, line_search_fn=line_search_fn))
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")

    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Up to ``max_iter`` iterations; ``closure`` clears the gradients, computes the loss and its gradients, and returns
        it. Returns the loss before."""
        options = self.param_groups[0]
        state = self.state[options["params"][0]]  # of all; kept with the first, so that loading casts it
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)

        def evaluate() -> Any:
            state["func_evals"] += 1
            with GradMode(True):
                return closure()

        with GradMode(False):
            first = evaluate()
            gradient = self._gradient()
            if abs(gradient).max() > options["tolerance_grad"]:
                self._iterate(evaluate, float(first), gradient, state, options)
        return first

    def _iterate(self, evaluate: Callable[[], Any], loss: float, gradient: Tensor, state: dict[str, Any],
                 options: dict[str, Any]) -> None:
        lr = options["lr"].reshape(()) if isinstance(options["lr"], Tensor) else options["lr"]
        before = state["func_evals"] - 1
        for iteration in range(1, options["max_iter"] + 1):
            state["n_iter"] += 1
            d = state["d"] = _direction(state, gradient, options["history_size"])
            state["prev_flat_grad"], state["prev_loss"] = gradient.clone(), loss
            t = state["t"] = lr if state["n_iter"] > 1 else min(1.0, 1.0 / abs(gradient).sum()) * lr
            slope = gradient.dot(d)
            if slope > -options["tolerance_change"]:
                return
            previous = loss
            if options["line_search_fn"] is not None:
                loss, gradient, t = self._search(evaluate, t, d, _Trial(0, loss, gradient, slope),
                                                 options["max_eval"] - (state["func_evals"] - before), options)
                state["t"] = t
            else:
                self._move(t, d)
                if iteration < options["max_iter"]:  # else nobody would look at it
                    loss = float(evaluate())
                    gradient = self._gradient()
            if (iteration == options["max_iter"] or state["func_evals"] - before >= options["max_eval"]
                    or abs(gradient).max() <= options["tolerance_grad"]
                    or abs(d * t).max() <= options["tolerance_change"] or abs(loss - previous) < options["tolerance_change"]):
                return

    def _search(self, evaluate: Callable[[], Any], t: Any, d: Tensor, start: _Trial, most: int,
                options: dict[str, Any]) -> tuple[float, Tensor, Any]:
        """Go along ``d`` to where the strong Wolfe conditions hold; the loss, gradient and step there."""
        if options["line_search_fn"] != "strong_wolfe":
            raise RuntimeError("only 'strong_wolfe' is supported")
        params = options["params"]
        origin = [p.clone() for p in params]

        def attempt(t: Any) -> _Trial:
            self._move(t, d)
            f = float(evaluate())
            gradient = self._gradient()
            for p, value in zip(params, origin):
                p.copy_(value)
            return _Trial(t, f, gradient, gradient.dot(d))

        found = _strong_wolfe(attempt, t, start, abs(d).max(), most)
        self._move(found.t, d)
        return found.f, found.gradient, found.t

    def _gradient(self) -> Tensor:
        """All gradients as one vector."""
        return flambeau.cat([flambeau.zeros_like(_real(p)).reshape(-1) if p.grad is None else _real(p.grad).reshape(-1)
                             for p in self.param_groups[0]["params"]], 0)

    def _move(self, t: Any, d: Tensor) -> None:
        """Add ``t * d`` to the parameters."""
        start = 0
        for p in map(_real, self.param_groups[0]["params"]):
            p.add_(d[start:start + p.numel()].view(p.shape), alpha=float(t))
            start += p.numel()


def _real(x: Tensor) -> Tensor:
    return flambeau.view_as_real(x) if x.is_complex() else x


def _direction(state: dict[str, Any], gradient: Tensor, history: int) -> Tensor:
    """Minus the gradient times the estimated inverse Hessian (two-loop recursion); the last change is remembered first."""
    if state["n_iter"] == 1:
        state.update(old_dirs=[], old_stps=[], ro=[], H_diag=1)
        return gradient.neg()
    changes, steps, weights = state["old_dirs"], state["old_stps"], state["ro"]
    y, s = gradient - state["prev_flat_grad"], state["d"] * state["t"]
    curvature = y.dot(s)
    if curvature > 1e-10:
        if len(changes) == history:
            for memory in (changes, steps, weights):
                memory.pop(0)
        changes.append(y)
        steps.append(s)
        weights.append(1.0 / curvature)
        state["H_diag"] = curvature / y.dot(y)
    shares = state.setdefault("al", [None] * history)
    q = gradient.neg()
    for i in reversed(range(len(changes))):
        shares[i] = steps[i].dot(q) * weights[i]
        q.sub_(changes[i] * shares[i])
    d = q * state["H_diag"]
    for i in range(len(changes)):
        d.add_(steps[i] * (shares[i] - changes[i].dot(d) * weights[i]))
    return d


class _Trial(NamedTuple):
    """A point on the line: the step, the loss, the gradient, and its component along the line."""

    t: Any
    f: float
    gradient: Tensor
    slope: Any


def _strong_wolfe(attempt: Callable[[Any], _Trial], t: Any, start: _Trial, reach: Tensor, most: int, c1: float = 1e-4,
                  c2: float = 0.9, shortest: float = 1e-9) -> _Trial:
    """A step that lowers the loss by enough (``c1``) and flattens its slope by enough (``c2``), in ``most`` tries.

    Args:
        attempt: gives the :class:`_Trial` of a step.
        reach: the largest component of the direction: a bracket is too short when nothing moves by ``shortest`` in it.
    """
    before, trial, tries = start, attempt(t), 0
    ends = None
    while tries < most:
        too_high = trial.f > start.f + c1 * trial.t * start.slope or (tries > 1 and trial.f >= before.f)
        if not too_high and abs(trial.slope) <= -c2 * start.slope:
            return trial
        if too_high or trial.slope >= 0:
            ends = [before, trial]
            break
        nearest, furthest = trial.t + 0.01 * (trial.t - before.t), trial.t * 10
        before, trial = trial, attempt(_cubic_minimum(before, trial, nearest, furthest))
        tries += 1
    return _zoom(attempt, [start, trial] if ends is None else ends, start, reach, most - tries, c1, c2, shortest)


def _zoom(attempt: Callable[[Any], _Trial], ends: list[_Trial], start: _Trial, reach: Tensor, most: int, c1: float, c2: float,
          shortest: float) -> _Trial:
    """The best end of a bracket that is narrowed until the conditions hold at it."""
    low = 0 if ends[0].f <= ends[1].f else 1
    stuck = False
    for _ in range(most):
        left, right = sorted(end.t for end in ends)
        if (right - left) * reach < shortest:
            break
        t, margin = _cubic_minimum(ends[0], ends[1], left, right), 0.1 * (right - left)
        close = min(right - t, t - left) < margin
        if close and (stuck or t >= right or t <= left):  # twice near an end, or at it: move inwards
            t, close = (right - margin if abs(t - right) < abs(t - left) else left + margin), False
        stuck = close
        trial = attempt(t)
        if trial.f > start.f + c1 * t * start.slope or trial.f >= ends[low].f:
            ends[1 - low] = trial
            low = 0 if ends[0].f <= ends[1].f else 1
            continue
        flat = abs(trial.slope) <= -c2 * start.slope
        if not flat and trial.slope * (ends[1 - low].t - ends[low].t) >= 0:
            ends[1 - low] = ends[low]
        ends[low] = trial
        if flat:
            break
    return ends[low]


def _cubic_minimum(a: _Trial, b: _Trial, lowest: Any, highest: Any) -> Any:
    """Where the cubic through two trials and their slopes is least, within the bounds; their middle if nowhere."""
    if a.t > b.t:
        a, b = b, a
    bend = a.slope + b.slope - 3 * (a.f - b.f) / (a.t - b.t)
    square = bend * bend - a.slope * b.slope
    if not square >= 0:
        return (lowest + highest) / 2.0
    root = square.sqrt()
    return min(max(b.t - (b.t - a.t) * ((b.slope + root - bend) / (b.slope - a.slope + 2 * root)), lowest), highest)


__all__ = ["LBFGS"]
