"""Views that were made while their base was off the tape, and what becomes of them when it is put on the tape."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .tensor import Tensor


def remember_view(t: Tensor) -> None:
    """``t`` is a view off the tape: see :func:`put_on_tape`."""
    storage = t._storage
    views = storage.views
    if views is None:
        storage.views = [weakref.ref(t)]
        return
    views.append(weakref.ref(t))
    if not len(views) & 127:
        views[:] = [r for r in views if r() is not None]


def put_on_tape(base: Tensor, refresh: Callable[[Tensor], None]) -> None:
    """A recorded write to ``base`` is one to its views: those that were made while it was off the tape are on it from now on."""
    views, base._storage.views = base._storage.views, None
    for ref in views or ():
        t = ref()
        if t is None or t._view is None:
            continue
        if t._view.base is base and not t._rg:
            t._view.version = -1
            if t._view.ban is None:
                refresh(t)
            t._rg = True  # (a look at one that must not be used any more raises)
        elif t._view.base is not base:
            remember_view(t)


def follow_base(base: Tensor) -> None:
    """Views of a leaf that were made while it was off the tape require a gradient where it does."""
    for ref in base._storage.views or ():
        t = ref()
        if t is not None and t._view is not None and t._view.base is base and t._grad_fn is None:
            t._rg = base._rg


def outdated(ban: Any) -> str:
    """What is wrong with a view that says ``ban`` of recorded writes, after one to its base."""
    if type(ban) is tuple:
        return (f"Output {ban[0]} of {ban[1]} is a view and its base or another view of its base has been modified inplace. "
                "This view is the output of a function that returns multiple views. Such functions do not allow the output views "
                "to be modified inplace. You should replace the inplace operation by an out-of-place one.")
    return (f"A view was created in {ban} mode and its base or another view of its base has been modified inplace with grad "
            "mode enabled. Given that this use case is ambiguous and error-prone, it is forbidden. You can clarify your code by "
            f"moving both the view and the inplace either both inside the {ban} block (if you don't want the inplace to be "
            "tracked) or both outside (if you want the inplace to be tracked).")
