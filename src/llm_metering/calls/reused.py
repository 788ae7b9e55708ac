"""Calls in flight at the same time under one key: a user may fix the run id of several.

They are kept under keys of their own, made of the one they share. What is told under that one
cannot be told apart for certain: it belongs to the earliest call that has not heard of it, of those
begun in the same thread if there are any. So each end settles one call, and the sum is right.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Final

from .call import Call, Key
from .memory import SettledCalls
from .values import CallStart

__all__ = ["RUN_ID_REUSED", "ReusedKeys"]

RUN_ID_REUSED: Final = "run_id_reused"

_MANY: Final = 32
_numbers: Final = count(1)


class ReusedKeys(dict[Key, list[Key]]):
    """The keys of calls that share one, in the order of their starts."""

    def beside(
        self, key: Key, start: CallStart, in_flight: Mapping[Key, Call]
    ) -> tuple[Key, Call | None]:
        """The call of a start under a key that others have as well.

        Returns:
            Its key, which is to `join` the others once it is in flight, and the call itself if it is
            known already.
        """
        keys = self.get(key) or [key]
        for each in keys:
            known = in_flight.get(each)
            if known is not None and known.start.request is start.request:
                return each, known
        if not any(each in in_flight for each in keys):
            self._forget(key, in_flight)  # one after the other again
            return key, None
        if len(keys) > _MANY:
            for each in [each for each in keys if each not in in_flight]:
                with suppress(ValueError):  # another thread was faster
                    keys.remove(each)
        return (key, next(_numbers)), None

    def join(self, key: Key, another: Key) -> None:
        """A call in flight shares a key with others."""
        while True:
            keys = self.setdefault(key, [key])
            if another not in keys:
                keys.append(another)
            if self.get(key) is keys:
                return
            # Another thread has just forgotten them.

    def flag(self, key: Key, in_flight: Mapping[Key, Call]) -> None:
        """Have the events of all that share a key say so."""
        for each in self.get(key, ()):
            call = in_flight.get(each)
            if call is not None and RUN_ID_REUSED not in call.flags:
                call.flags = (*call.flags, RUN_ID_REUSED)

    def of_piece(self, key: Key, in_flight: Mapping[Key, Call]) -> Key:
        """The key of the call that a piece belongs to."""
        keys = [each for each in self.get(key, ()) if each in in_flight]
        here = threading.get_ident()
        return next(
            (each for each in keys if in_flight[each].thread == here), keys[0] if keys else key
        )

    def of_end(
        self, key: Key, in_flight: Mapping[Key, Call], settled: SettledCalls, teller: str
    ) -> Key:
        """The key of the call that an end belongs to."""
        keys: Sequence[Key] = self.get(key, ())
        here = threading.get_ident()

        def is_from_here(each: Key) -> bool:
            call = in_flight.get(each)
            return here == (settled.thread_of(each) if call is None else call.thread)

        keys = [each for each in keys if is_from_here(each)] or keys
        return next(
            (each for each in keys if each in in_flight or settled.awaits(each, teller)), key
        )

    def prune(self, in_flight: Mapping[Key, Call]) -> None:
        """Forget those of whom none is in flight."""
        for key, keys in list(self.items()):
            if not any(each in in_flight for each in keys):
                self._forget(key, in_flight)

    def _forget(self, key: Key, in_flight: Mapping[Key, Call]) -> None:
        for each in self.pop(key, ()):
            if each in in_flight:  # begun meanwhile
                self.join(key, each)
