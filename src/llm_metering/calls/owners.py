"""What calls are begun in, and are over with: the runs around them, and asyncio's tasks.

Frameworks do not tell of each call how it ended, but of what is around it they tell more. Read in
langchain-core 1.7.2: an `ainvoke` that is cancelled says nothing of the call
(`language_models/chat_models.py`, `agenerate`), while the run of the chain around it ends in
`on_chain_error` (`runnables/base.py`), and its task is cancelled. That a task is over says nothing
by itself: each step of a stream may run in a task of its own (`py_anext` with `create_task=True`).

Nothing here is locked. That an owner is over is said once, and `dict.pop` gives what it owned to
one caller only; a call that was begun in that very moment is left to the sweep.
"""

from __future__ import annotations

import asyncio
import weakref
from asyncio.events import _get_running_loop
from collections.abc import Hashable
from typing import Any, Final, Protocol

from .call import Call, Key
from .values import CallStart

__all__ = ["Owned", "current_task", "forget_idle", "owned_by_task", "owner_is_over", "owners_of"]


class _Closer(Protocol):
    """A table, as far as it is told that what a call was begun in is over."""

    def leave(self, key: Key, call: Call, /) -> None: ...
    def cancel(self, key: Key, call: Call, /) -> None: ...


Owned = dict[tuple[_Closer, Key], Call]
"""The calls in flight that were begun in one owner. Each goes as it is settled."""

_owned: Final[dict[Hashable, Owned]] = {}
_owned_by_task: Final[weakref.WeakKeyDictionary[asyncio.Task[Any], Owned]] = (
    weakref.WeakKeyDictionary()
)


def current_task() -> asyncio.Task[Any] | None:
    """The asyncio task that runs here, if one does."""
    # `asyncio.current_task` alone raises where there is no loop, which takes several times as long.
    loop = _get_running_loop()
    return None if loop is None else asyncio.current_task(loop)


def owners_of(start: CallStart) -> tuple[Owned, ...]:
    """The calls of each owner that a call is begun in, to put this one in."""
    if start.parent is None and start.task is None:
        return ()
    owned = [] if start.parent is None else [_owned.setdefault(start.parent, {})]
    if start.task is not None:
        owned.append(owned_by_task(start.task))
    return tuple(owned)


def owner_is_over(owner: Hashable) -> None:
    """What calls may have been begun in has ended, in whatever way; those still open were left."""
    owned = _owned.pop(owner, None)
    if owned:
        for (closer, key), call in list(owned.items()):
            closer.leave(key, call)


def forget_idle() -> None:
    """Forget the owners that own nothing now; some never say that they are over."""
    for owner, owned in list(_owned.items()):
        if not owned:
            _owned.pop(owner, None)
            if owned:  # begun meanwhile
                _owned.setdefault(owner, {}).update(owned)


def owned_by_task(task: asyncio.Task[Any]) -> Owned:
    """The calls of a task, to put another one in."""
    owned = _owned_by_task.get(task)
    if owned is None:
        owned = _owned_by_task[task] = {}
        task.add_done_callback(_task_is_over)
    return owned


def _task_is_over(task: asyncio.Task[Any]) -> None:
    for (closer, key), call in list(_owned_by_task.pop(task, {}).items()):
        if not task.cancelled():
            # It has left behind what had no sign of life: a call that a time limit inside the task
            # has cut short (`asyncio.timeout`). What has one may be a stream that others read on.
            if call.first_piece is None:
                closer.leave(key, call)
        elif call.producer is None or call.producer.done():
            closer.cancel(key, call)
