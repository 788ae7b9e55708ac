"""Whom the commands ask about usage."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol, Self

from ...errors import LedgerError
from ...meters import UsageQuery, UsageReport
from ...settings import Settings
from ..common import existing_spool, exists
from ..tally import delivery_notes
from .remote_answers import RemoteAnswers

if TYPE_CHECKING:
    from ...ledger import Ledger
    from ...meter import Meter

__all__ = ["LEDGER", "Answers", "LedgerAnswers", "answers_from"]

LEDGER: Final = "ledger"
"""What the ledger is called among the back ends."""

_WHOLE: Final = 10.0
_PART: Final = 1.0
"""Seconds that the ledger has to take in what finished processes left."""

_GRAIN: Final = 0.05
"""Seconds; no file system of Linux tells writes apart less well than that."""


class Answers(Protocol):
    """Answers questions about usage."""

    @property
    def is_there(self) -> bool:
        """Whether there is anybody to ask, who may come yet."""
        ...

    @property
    def currency(self) -> str | None:
        """What all costs are in that are known; `None` if none are, or of several currencies."""
        ...

    def take_in(self, *, whole: bool = False) -> None:
        """Have what can still be had before a question.

        Args:
            whole: Whether anything less than all of it is an error.

        Raises:
            LedgerError: If not all of it could be had.
        """
        ...

    def ask(self, queries: Sequence[UsageQuery], *, main: int = 0) -> list[UsageReport]:
        """Answer all of them, as much as there is: what is missing is in `remarks`.

        Args:
            queries: The questions.
            main: The place of the one without whose answer there is nothing to show.

        Raises:
            QueryError: If that makes no sense.
            MeteringError: If that has no answer now.
        """
        ...

    def report(self, query: UsageQuery) -> UsageReport:
        """Answer one, and nothing less than the whole of it.

        Raises:
            MeteringError: If not all that was recorded is there.
        """
        ...

    def remarks(self) -> list[str]:
        """What the answers lack, in sentences."""
        ...

    def state(self) -> object:
        """Something that is the same as before only if the answers are; `None` is never so."""
        ...


class LedgerAnswers:
    """The ledger of a home, with what finished processes left in its journal; nothing is sent anywhere.

    Args:
        settings: Where the home is.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ledger: Ledger | None = None
        self._meter: Meter | None = None
        self._has_journal = False
        self._was_there = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def is_there(self) -> bool:
        """Whether there is a home; to look at one that is not there must not make it."""
        return exists(self._settings.home)

    @property
    def currency(self) -> str | None:
        """As soon as somebody has asked for costs; to price a whole ledger takes seconds."""
        ledger = self._reader()
        currencies = ledger.currencies() if ledger is not None else ()
        return currencies[0] if len(currencies) == 1 else None

    def ask(
        self, queries: Sequence[UsageQuery], *, main: int = 0
    ) -> list[UsageReport]:  # all or none
        ledger = self._reader()
        if ledger is None:
            return [UsageReport(query=query) for query in queries]
        self._price(queries)
        return ledger.query_all(queries)

    def _price(self, queries: Sequence[UsageQuery]) -> None:
        books = {query.meter.book for query in queries if query.meter.book is not None}
        if books and self._meter is not None:
            self._meter.price(*sorted(books))

    def report(self, query: UsageQuery) -> UsageReport:
        self._reader()
        if self._meter is None:
            return UsageReport(query=query)
        return self._meter.usage(
            query.meter.slug,
            query.subjects,
            query.window,
            query.start,
            query.end,
            query.group_by,
            query.time_zone,
            filters=dict(query.filters),
        )

    def take_in(self, *, whole: bool = False) -> None:
        """Bring into the ledger what finished processes left."""
        self._reader()
        if self._meter is None or self._meter.take_in(_WHOLE if whole else _PART) or not whole:
            # What does not get there in time is in the remarks.
            return
        raise LedgerError(
            "the ledger has not taken all that was recorded, so usage would be short; "
            "`llm-metering status` says why"
        )

    def remarks(self) -> list[str]:
        return delivery_notes(self._meter.statistics()) if self._meter else []

    def state(self) -> object:
        self._reader()
        if self._ledger is None:
            return None
        # Whoever writes changes the log, or the file when the log is copied there.
        files = [self._ledger.path, self._ledger.path.with_name(f"{self._ledger.path.name}-wal")]
        found = []
        for each in files:
            with contextlib.suppress(FileNotFoundError):
                stat = each.stat()
                if time.time() - stat.st_mtime < _GRAIN:
                    # Another write within this grain would leave the same time.
                    return None
                found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        return tuple(found)

    def _reader(self) -> Ledger | None:
        if not self.is_there:
            if self._was_there:
                raise LedgerError(f"{self._settings.home} is not there any more")
            return None
        has_journal = existing_spool(self._settings.home) is not None
        if self._meter is None or self._has_journal != has_journal:
            self._open(has_journal=has_journal)
        assert self._ledger is not None
        is_there = self._ledger.path.exists()
        if self._was_there and not is_there:
            raise LedgerError(f"{self._ledger.path} is not there any more")
        self._was_there = self._was_there or is_there
        return self._ledger

    def _open(self, *, has_journal: bool) -> None:
        # Imported here, so that `--help` and a mistyped option answer at once.
        from ...meter import Meter
        from ...opening import open_ledger

        self._close()
        # It takes in what finished processes left, with the ledger alone: to look at usage must
        # send none of it anywhere. A home that only has a ledger, as `ingest` fills it, gets no
        # journal: it would be this user's, who may not be the one that an application runs as.
        self._meter = Meter(
            home=self._settings.home,
            sinks=(),
            source=self._settings.source,
            ledger=True,
            durability="process" if has_journal else "memory",
        )
        self._ledger = open_ledger(self._meter.settings)
        self._has_journal = has_journal

    def _close(self) -> None:
        if self._ledger is not None:
            self._ledger.close()
        if self._meter is not None:
            self._meter.__exit__(None, None, None)
        self._ledger = self._meter = None


def answers_from(settings: Settings, backend: str | None) -> LedgerAnswers | RemoteAnswers:
    """Whom to ask.

    Args:
        settings: Where the home is, and the sinks are named.
        backend: `ledger`, or the name of an OpenMeter sink; the ledger if absent, or, where it is
            off, the only such sink.

    Raises:
        QueryError: If there is no such back end.
        LedgerError: If the ledger is off and nobody else can be asked.
    """
    if settings.ledger and backend in (None, LEDGER):
        return LedgerAnswers(settings)
    return RemoteAnswers(settings, backend)
