"""Importing: a file of usage into the ledger, all of it or nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from ..errors import ImportFileError
from ..ledger import Ledger
from ..ledger.staging import Staging, staging
from ..ledger.staging_values import Sum
from ..meters.moments import rfc3339
from ..settings.sources import source_problem
from .differing import differences, is_same
from .fields import RowError
from .files import read_file, written_at
from .making import MadeEvent, Payers, make_events, refuse_overlaps
from .values import EventsFile, Line, Shape, UsageFile

__all__ = ["Imported", "import_file"]

_AT_ONCE: Final = 2_000
_NAMED: Final = 10
"""Of those that differ, how many a report names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of a file.

    Attributes:
        path: The file.
        shape: What was in it.
        read: The events in it; of a provider's usage, those that its rows make.
        new: Those that the ledger did not have.
        known: Those that it had, by source and id.
        repeated: Those that are in the file more than once, from the second one on.
        differing: How many of those two have another content than the event that counts.
        differing_places: The first of these: their lines, or numbers.
        skipped: Lines that hold no event, and were passed over as asked.
        skipped_places: The first of these.
        empty: A provider's rows that count nothing.
        ignored: Names of its fields that count nothing and were passed over.
        has_more: Whether it says that there are further pages.
        sums: What the new events add up to, by subject and model.
        is_dry_run: Whether nothing was written.
    """

    path: str
    shape: Shape
    read: int
    new: int
    known: int
    repeated: int
    differing: int = 0
    differing_places: tuple[int, ...] = ()
    skipped: int = 0
    skipped_places: tuple[int, ...] = ()
    empty: int = 0
    ignored: tuple[str, ...] = ()
    has_more: bool = False
    sums: tuple[Sum, ...] = ()
    is_dry_run: bool = False


def import_file(
    ledger: Ledger,
    path: str | os.PathLike[str],
    *,
    subject: str | None = None,
    subject_from: str | None = None,
    source: str | None = None,
    beside_recorded: bool = False,
    skip_unreadable: bool = False,
    dry_run: bool = False,
    on_progress: Callable[[int], object] = lambda done: None,
    clock: Callable[[], float] = time.time,
) -> Imported:
    """Take a file of usage into the ledger.

    It holds CloudEvents, as `export_events` and a `jsonl` sink write them, or the usage that OpenAI or
    Anthropic reports: pages of their APIs, or the table that their web pages export. All of it is
    taken in or nothing, and what is imported again is not counted again. Nothing is sent to sinks.

    What a provider reports is one event for each bucket and each value of what it is grouped by, at
    the beginning of the bucket.

    Args:
        ledger: Where to.
        path: The file, compressed with gzip or not.
        subject: Who pays for a provider's usage, or for the rows that do not say it.
        subject_from: The key of a row that names who pays: `project_id`, `user_id`, `api_key_id`,
            `workspace_id`, …
        source: The CloudEvents source of the events that are made of a provider's usage;
            `import:openai` or `import:anthropic`, unless named.
        beside_recorded: Import a provider's usage although the ledger has other events of this
            provider and period, which may be the same calls, or the file the same time in two ways.
        skip_unreadable: Pass over lines that hold no event, and count them, as a crash may leave
            them in the file of a `jsonl` sink.
        dry_run: Say what would be imported, and write nothing.
        on_progress: Called with the number of events that were read.
        clock: Seconds since 1970.

    Raises:
        ImportFileError: If the file is in no known shape, damaged or contradicts what the ledger
            has; nothing of it was imported.
        LedgerError: If the ledger cannot be read or written.
    """
    name = os.fspath(path)
    if source is not None and (problem := source_problem(source)) is not None:
        # OpenMeter refuses its events, and no setting could ever name it to send them.
        raise ImportFileError(name, f"{source!r} cannot be a source: {problem}")
    found = read_file(Path(path), skip_unreadable=skip_unreadable)
    with staging(ledger.path, dry_run=dry_run, keys=ledger.keys) as stage:
        if isinstance(found, EventsFile):
            if subject or subject_from or source:
                raise ImportFileError(
                    name, "its events name their own subject and source; leave the options out"
                )
            return _Events(stage, name, found, on_progress, skip_unreadable, dry_run).run()
        made = _Usage(stage, name, found, Payers(key=subject_from, subject=subject), on_progress)
        over_at = datetime.fromtimestamp(min(clock(), written_at(Path(path))), UTC)
        return made.run(
            source or f"import:{found.provider}",
            over_at=over_at,
            beside_recorded=beside_recorded,
            dry_run=dry_run,
        )


class _Events:
    def __init__(
        self,
        stage: Staging,
        name: str,
        file: EventsFile,
        on_progress: Callable[[int], object],
        skip_unreadable: bool,
        dry_run: bool,
    ) -> None:
        self._stage = stage
        self._name = name
        self._file = file
        self._on_progress = on_progress
        self._may_skip = skip_unreadable
        self._dry_run = dry_run
        self._skipped = 0
        self._skipped_places: list[int] = []

    def run(self) -> Imported:
        """Import CloudEvents."""
        for batch in _batches(self._file.lines):
            self._note(self._stage.add(batch))
            self._on_progress(self._stage.staged)
        while True:
            counts = self._stage.compare()
            differing = 0
            places: list[int] = []
            for each in self._stage.differing():
                if is_same(each):
                    continue
                differing += 1
                if len(places) < _NAMED:
                    places.append(each.place)
            sums = tuple(self._stage.sums())
            if self._dry_run or self._stage.take(counts.new):
                break
        return Imported(
            path=self._name,
            shape="cloudevents",
            read=self._stage.staged,
            new=counts.new,
            known=counts.known,
            repeated=counts.repeated,
            differing=differing,
            differing_places=tuple(places),
            skipped=self._skipped,
            skipped_places=tuple(self._skipped_places),
            sums=sums,
            is_dry_run=self._dry_run,
        )

    def _note(self, refused: list[tuple[int, str]]) -> None:
        for place, reason in refused:
            if not self._may_skip:
                raise ImportFileError(self._name, f"{self._file.place} {place}: {reason}")
            self._skipped += 1
            if len(self._skipped_places) < _NAMED:
                self._skipped_places.append(place)


class _Usage:
    def __init__(
        self,
        stage: Staging,
        name: str,
        file: UsageFile,
        payers: Payers,
        on_progress: Callable[[int], object],
    ) -> None:
        self._stage = stage
        self._name = name
        self._file = file
        self._payers = payers
        self._on_progress = on_progress

    def run(
        self, source: str, *, over_at: datetime, beside_recorded: bool, dry_run: bool
    ) -> Imported:
        """Import what a provider reports."""
        try:
            if not beside_recorded:
                refuse_overlaps(self._file)
            made, again = make_events(self._file, self._payers, source=source, over_at=over_at)
        except RowError as error:
            raise ImportFileError(self._name, str(error)) from None
        refused = self._stage.add((place, each.payload) for place, each in enumerate(made))
        for place, reason in refused:
            raise ImportFileError(self._name, f"{made[place].where}: {reason}")
        self._on_progress(self._stage.staged)
        while True:
            counts = self._stage.compare()
            self._refuse_contradictions(made)
            if not beside_recorded:
                self._refuse_twice_counted()
            sums = tuple(self._stage.sums())
            # Looked at again when nobody else can write: calls, or the same usage grouped otherwise,
            # may have come in meanwhile.
            check = None if beside_recorded else partial(self._refuse_twice_counted, is_new=True)
            if dry_run or self._stage.take(counts.new, check):
                break
        return Imported(
            path=self._name,
            shape=self._file.provider,
            read=self._stage.staged + again,
            new=counts.new,
            known=counts.known,
            repeated=counts.repeated + again,
            empty=self._file.empty,
            ignored=self._file.ignored,
            has_more=self._file.has_more,
            sums=sums,
            is_dry_run=dry_run,
        )

    def _refuse_contradictions(self, made: list[MadeEvent]) -> None:
        for each in self._stage.differing():
            if names := differences(each):
                raise ImportFileError(
                    self._name,
                    f"{made[each.place].where}: the ledger has this bucket and these keys with "
                    f"another {', '.join(names)}; what is in the ledger stays as it is, so leave the "
                    "row out, or import it under another --source and see to it that one of them "
                    "is not billed",
                )

    def _refuse_twice_counted(self, *, is_new: bool = False) -> None:
        rows = list(self._file.rows)
        if not rows:
            return
        start, end = min(row.start for row in rows), max(row.end for row in rows)
        beside = self._stage.beside(
            self._file.provider, self._file.operation, start, end, is_new=is_new
        )
        if beside:
            found = ", ".join(f"{count} of {source!r}" for source, count in beside)
            raise ImportFileError(
                self._name,
                f"between {rfc3339(start)} and {rfc3339(end)} the ledger has other events of "
                f"{self._file.provider} ({found}), which may be the same calls and would count twice; "
                "if they are not, say --beside-recorded",
            )


def _batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    batch: list[Line] = []
    for line in lines:
        batch.append(line)
        if len(batch) == _AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch
