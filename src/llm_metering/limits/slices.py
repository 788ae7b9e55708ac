"""`Slices`: parts of a hot subject's balance, leased ahead, from which its calls are served in memory.

Calls of one subject wait for each other at one row of the store, where each is a transaction that waits
for the disk. A process that makes many of them reserves for many at once, and hands that out itself.
What it has leased nobody else can use meanwhile; what nobody uses it gives back after seconds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from .. import system
from ..errors import LimitStoreError
from ..event_ids import new_event_id
from ..handoff import DaemonThread
from .stores import AccountKey, Hold, LimitStore

__all__ = ["LEASED_FOR", "Slices", "part_of"]

logger = logging.getLogger("llm_metering")

LEASED_FOR: Final = 120.0
"""Seconds for which a slice counts behind its last renewal: what a process that died leaves of one is
back then, whether its calls were recovered by that time or not."""

HOT: Final = 20
"""Calls of a subject in a second, from which on slices are leased."""

CALLS: Final = 64
"""As many like the one at hand are served from a slice."""

IDLE: Final = 3.0
"""Seconds after which what nobody has used is given back."""

_TICK: Final = 1.0
_TRUSTED: Final = 0.9
"""How much of its lease a slice is handed out for behind its last renewal."""

_SEPARATOR: Final = "/"


@dataclass(slots=True)
class _Slice:
    """A slice. Calls end within garbage collection, too: what tells of it is one step, without a lock."""

    id: str
    left: int
    used_at: float
    renewed_at: float
    begun: int = 0
    ended: list[None] = field(default_factory=list)

    @property
    def open(self) -> int:
        return self.begun - len(self.ended)


@dataclass(slots=True)
class _Hot:
    """How often somebody was asked for, and the slice that is handed out."""

    since: float
    count: int = 0
    slice: _Slice | None = None


def part_of(reservation_id: str) -> tuple[str, int | None]:
    """The reservation of a call, and how much of it is the call's; `None` is all.

    >>> part_of("01a2/1100"), part_of("01a2")
    (('01a2', 1100), ('01a2', None))
    """
    id, separator, steps = reservation_id.partition(_SEPARATOR)
    return (id, int(steps)) if separator and steps.isdecimal() else (reservation_id, None)


class Slices:
    """The slices of one process.

    Args:
        store: Where balances are.
        clock: In seconds.
    """

    def __init__(self, store: LimitStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._begin()
        system.on_fork(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._hot: dict[AccountKey, _Hot] = {}
        self._slices: dict[str, _Slice] = {}
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def __repr__(self) -> str:
        return f"<Slices {len(self._slices)}>"

    def after_fork(self) -> None:
        """In a forked child: what is leased is the parent's."""
        self._begin()

    def take(self, key: AccountKey, steps: int) -> str | None:
        """Reserve something for a call from what is leased ahead, leasing more if need be.

        Returns:
            The call's reservation id; `None` where the store is to be asked for the call alone: the
            subject is not hot, or has too little left for a slice.

        Raises:
            LimitStoreError: If the store cannot be used now.
        """
        if self._closing.is_set():
            return None
        with self._lock:
            hot = self._counted(key)
            if hot is None:
                return None
            slice = hot.slice
            if slice is not None and self._clock() - slice.renewed_at >= LEASED_FOR * _TRUSTED:
                # Nobody could renew it: what it held is somebody else's by now, perhaps.
                slice = hot.slice = None
            if slice is None or slice.left < steps:
                found = self._lease(key, steps * CALLS)
                if found is None:
                    return None
                old, hot.slice = slice, found
                slice = found
            else:
                old = None
            slice.left -= steps
            slice.begun += 1
            slice.used_at = self._clock()
        if old is not None:
            self._retire(old)
        return f"{slice.id}{_SEPARATOR}{steps}"

    def ended(self, reservation_id: str) -> None:
        """The event of a call is recorded; it settles the call's part."""
        slice = self._slices.get(part_of(reservation_id)[0])
        if slice is not None:
            slice.ended.append(None)

    def give_back(self, reservation_id: str) -> None:
        """A call costs nothing.

        Raises:
            LimitStoreError: If the store cannot be used now; the part ends with its slice.
        """
        id, steps = part_of(reservation_id)
        with self._lock:
            slice = self._slices.get(id)
            if slice is not None and steps is not None:
                slice.ended.append(None)
                if any(hot.slice is slice for hot in self._hot.values()):
                    slice.left += steps
                    return
        self._store.lessen(id, steps or 0)

    def close(self) -> None:
        """Give back what was leased and not used."""
        self._closing.set()
        with self._lock:
            slices = [hot.slice for hot in self._hot.values() if hot.slice is not None]
            self._hot.clear()
        for slice in slices:
            self._retire(slice)

    def look(self) -> None:
        """Give back what nobody uses, and renew what calls are under way from."""
        now = self._clock()
        idle = []
        with self._lock:
            for hot in list(self._hot.values()):
                if hot.slice is not None and now - hot.slice.used_at >= IDLE:
                    idle.append(hot.slice)
                    hot.slice = None
            due = []
            for slice in list(self._slices.values()):
                is_current = any(hot.slice is slice for hot in self._hot.values())
                if slice.open <= 0 and not is_current and slice not in idle:
                    # Its last events are on their way; it counts for as long as its lease does.
                    del self._slices[slice.id]
                elif now - slice.renewed_at >= LEASED_FOR / 4:
                    due.append(slice)
        for slice in idle:
            self._retire(slice)
        if due:
            try:
                renewed = self._store.renew([slice.id for slice in due], LEASED_FOR)
            except LimitStoreError as error:
                logger.warning("%d slices were not renewed, and will be: %s", len(due), error)
                return
            with self._lock:
                for slice in due:
                    if slice.id in renewed:
                        slice.renewed_at = now
                        continue
                    # It has lapsed, or all of it is settled.
                    self._slices.pop(slice.id, None)
                    for hot in self._hot.values():
                        if hot.slice is slice:
                            hot.slice = None

    def _counted(self, key: AccountKey) -> _Hot | None:
        """Count a call; what there is for its subject, if that is hot."""
        now = self._clock()
        if len(self._hot) > _MOST:
            self._hot = {each: hot for each, hot in self._hot.items() if hot.slice is not None}
        hot = self._hot.setdefault(key, _Hot(now))
        if now - hot.since >= 1.0:
            if hot.count < HOT and hot.slice is None:
                hot.since, hot.count = now, 0
            else:
                # Warm: it goes on as long as its slice is used.
                hot.since, hot.count = now, HOT if hot.slice is not None else hot.count
        hot.count += 1
        return hot if hot.count > HOT or hot.slice is not None else None

    def _lease(self, key: AccountKey, steps: int) -> _Slice | None:
        """A new slice; `None` if there is too little for one."""
        now = self._clock()
        id = new_event_id()
        hold = Hold(id=id, subject=key.subject, amounts={key: steps}, seconds=LEASED_FOR)
        if self._store.reserve(hold) is not None:
            return None
        slice = self._slices[id] = _Slice(id, steps, now, now)
        if self._thread is None or not self._thread.is_alive():
            self._closing.clear()
            try:
                self._thread = DaemonThread(
                    self._work, args=(self._closing,), name="llm-metering-slices"
                )
                self._thread.start()
            except RuntimeError:
                self._thread = None  # what is not given back ends by itself
        return slice

    def _retire(self, slice: _Slice) -> None:
        left, slice.left = slice.left, 0
        if left:
            try:
                self._store.lessen(slice.id, left)
            except LimitStoreError as error:
                logger.warning("a slice was not given back, and ends by itself: %s", error)

    def _work(self, closing: threading.Event) -> None:
        while not closing.wait(_TICK):
            self.look()


_MOST: Final = 10_000
