"""`Leases`: what this process has reserved goes on counting while it lives, and for a day behind that."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from .. import system
from ..errors import LimitStoreError
from ..handoff import DaemonThread
from .stores import LimitStore

__all__ = ["HELD_FOR", "RENEW_EVERY", "Leases"]

logger = logging.getLogger("llm_metering")

HELD_FOR: Final = 24 * 3600.0
"""Seconds for which a reservation counts behind its last renewal. A process that died has left notes of
its calls; who recovers them settles what it had reserved. This is for where nobody ever does."""

RENEW_EVERY: Final = 3600.0
"""Seconds between two renewals."""


class Leases:
    """The reservations of calls in flight here, renewed by a thread that lives as long as there are any.

    Args:
        store: Where they are.
        clock: In seconds.
    """

    def __init__(self, store: LimitStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._begin()
        system.on_fork(self)

    def _begin(self) -> None:
        # By the time at which each was last renewed. Its methods are single steps: calls end within
        # garbage collection, too.
        self._held: dict[str, float] = {}
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._starting = threading.Lock()  # only ever tried

    def __len__(self) -> int:
        return len(self._held)

    def after_fork(self) -> None:
        """In a forked child: what is reserved is the parent's."""
        self._begin()

    def begin(self, id: str) -> None:
        """Something is about to be reserved."""
        self._held[id] = self._clock()
        if self._wake.is_set():
            return  # nothing is renewed any more
        thread = self._thread
        if (thread is None or not thread.is_alive()) and self._starting.acquire(blocking=False):
            try:
                self._thread = DaemonThread(
                    self._work, args=(self._wake,), name="llm-metering-leases"
                )
                self._thread.start()
            except RuntimeError:
                # Too many threads, or the interpreter ends: it counts for a day all the same.
                self._thread = None
            finally:
                self._starting.release()

    def end(self, id: str) -> None:
        """It is settled by an event, or given back."""
        self._held.pop(id, None)

    def close(self) -> None:
        """Renew nothing any more."""
        self._wake.set()

    def renew(self) -> None:
        """Renew what was reserved or renewed long enough ago."""
        now = self._clock()
        due = [id for id, since in list(self._held.items()) if now - since >= RENEW_EVERY / 2]
        if not due:
            return
        try:
            self._store.renew(due, HELD_FOR)
        except LimitStoreError as error:
            logger.warning("%d reservations were not renewed, and will be: %s", len(due), error)
            return
        for id in due:
            if id in self._held:
                self._held[id] = now

    def _work(self, wake: threading.Event) -> None:
        while not wake.wait(RENEW_EVERY / 2):
            self.renew()
