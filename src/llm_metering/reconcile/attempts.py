"""What was sent again and when, kept in the home: so that no run repeats what was in vain.

::

    <home>/reconcile/<debt>.json      by the event's id on the wire: how often, and when last
    <home>/reconcile/<debt>.lock      held by whoever is sending again
    <home>/reconcile/<debt>.replayed  its time is when somebody last had the sink offered again what
                                      it may have had
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

import msgspec

from .. import system
from ..errors import ReconcileError
from ..transport.spool import Debt

__all__ = ["MOST", "Attempt", "Attempts", "note_replay", "replayed_at"]

MOST: Final = 3
"""Times that an event is sent again without a person saying that it should be once more."""


class Attempt(msgspec.Struct, frozen=True):
    """That an event was sent again.

    Attributes:
        times: How often.
        last: When last, in seconds since 1970.
        taken: Whether the server said yes to it, ever.
    """

    times: int = 0
    last: float = 0.0
    taken: bool = False

    def may_be_repeated(self, *, window: timedelta | None, now: float) -> bool:
        """Whether another one makes sense: the server forgets an id it has claimed after a while.

        Args:
            window: How long it remembers; `None` is for ever.
            now: Seconds since 1970.
        """
        if not self.times:
            return True
        forgotten = window is not None and now >= self.last + window.total_seconds()
        return self.times < MOST and (forgotten or not self.taken)


_attempts: Final = msgspec.json.Decoder(dict[str, Attempt])


class Attempts:
    """The attempts for one sink.

    Args:
        home: The home.
        debt: The sink.

    Raises:
        ReconcileError: If the file cannot be read: nothing is sent again then.
    """

    def __init__(self, home: Path, debt: Debt) -> None:
        self._path = home / "reconcile" / f"{debt.key}.json"
        self._known: dict[str, Attempt] = {}
        self._read()

    def __repr__(self) -> str:
        return f"<Attempts {self._path} events={len(self._known)}>"

    def of(self, event_id: str) -> Attempt:
        """How often an event was sent again."""
        return self._known.get(event_id, Attempt())

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep others from sending again meanwhile.

        Raises:
            ReconcileError: If somebody else is doing so.
            OSError: If the home cannot be written to.
        """
        system.make_private_folder(self._path.parent)
        lock = system.lock_file(self._path.with_suffix(".lock"))
        if lock is None:
            raise ReconcileError("another llm-metering reconcile is sending events again")
        try:
            self._read()  # what that one did before it let go
            yield
        finally:
            system.unlock_file(lock)

    def begin(self, event_ids: Iterable[str], *, now: float) -> None:
        """Note that events are about to be sent again: before that, so that a crash forgets none.

        Raises:
            OSError: If it cannot be written.
        """
        for each in event_ids:
            known = self.of(each)
            self._known[each] = Attempt(known.times + 1, now, known.taken)
        self._write()

    def end(
        self, sent: Iterable[str], taken: Iterable[str], arrived: Iterable[str], *, now: float
    ) -> None:
        """Note what became of it.

        Args:
            sent: What was sent until now.
            taken: What the server said yes to.
            arrived: What it lists by now; it is forgotten here.
            now: Seconds since 1970.

        Raises:
            OSError: If it cannot be written.
        """
        for each in sent:
            known = self.of(each)
            # It may have been the last one of many, hours after the first.
            self._known[each] = Attempt(known.times, max(known.last, now), known.taken)
        for each in taken:
            known = self.of(each)
            self._known[each] = Attempt(known.times, known.last, taken=True)
        for each in arrived:
            self._known.pop(each, None)
        self._write()

    def _read(self) -> None:
        try:
            self._known = _attempts.decode(self._path.read_bytes())
        except FileNotFoundError:
            self._known = {}
        except (OSError, msgspec.DecodeError):
            raise ReconcileError(
                f"{self._path} cannot be read: what was sent again before is not known; "
                "look at it, or delete it"
            ) from None

    def _write(self) -> None:
        known: Mapping[str, Attempt] = self._known
        system.replace_file(self._path, msgspec.json.encode(known))


def note_replay(home: Path, debt: Debt) -> None:
    """Note that a sink is being offered again what it may have had, now.

    Raises:
        OSError: If the home cannot be written to.
    """
    path = _replayed_path(home, debt)
    system.make_private_folder(path.parent)
    path.touch(mode=0o600)


def replayed_at(home: Path, debt: Debt) -> float:
    """When that was noted last, in seconds since 1970; 0 if never."""
    try:
        return _replayed_path(home, debt).stat().st_mtime
    except OSError:
        return 0.0


def _replayed_path(home: Path, debt: Debt) -> Path:
    return home / "reconcile" / f"{debt.key}.replayed"
