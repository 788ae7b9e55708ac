"""Exporting: from the ledger into a file, as it was when the export began."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, cast, get_args

from ..errors import ExportError
from ..ledger import Ledger
from ..ledger.extracts import Extract, StoredEvent, Wanted
from ..meters.moments import read_moment, rfc3339
from .targets import check_target, opened
from .writers import ExportFormat, writer_of

__all__ = ["Exported", "export_events"]

_FORMATS: Final = cast("tuple[ExportFormat, ...]", get_args(ExportFormat))
_GZIP: Final = ".gz"
_SUFFIXES: Final = ".jsonl, .csv, .parquet, .jsonl.gz and .csv.gz"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was exported.

    Attributes:
        events: How many events.
        pruned: How many of them have no body any more: of these there are the columns that the
            ledger keeps.
        format: In which format.
    """

    events: int
    pruned: int
    format: ExportFormat


def export_events(
    ledger: Ledger,
    target: str | os.PathLike[str] | None,
    *,
    format: ExportFormat | None = None,
    start: datetime | str | None = None,
    end: datetime | str | None = None,
    subjects: Iterable[str] | None = None,
    types: Iterable[str] | None = None,
    sources: Iterable[str] | None = None,
    overwrite: bool = False,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> Exported:
    """Write the events of a ledger into a file.

    They are those that the ledger has when it begins, in the order in which they were taken in;
    what is taken in meanwhile is not among them. Nobody who writes to the ledger waits. The file has
    its name once it is whole: after an error there is none, and one that was there is as it was.

    Args:
        ledger: Where from.
        target: The file; `None` is the standard output.
        format: `jsonl`, `csv` or `parquet`; else what the file's suffix says (`.jsonl`, `.csv` and
            these with `.gz`, `.parquet`).
        start: First moment that counts: aware, or ISO 8601 with an offset.
        end: First moment that no longer counts.
        subjects: Of these alone.
        types: Of these CloudEvents types alone.
        sources: Of these CloudEvents sources alone.
        overwrite: Whether a file that is there gives way.
        on_progress: Called with how much of the ledger was read, and how much there is.

    Raises:
        ExportError: If the file cannot be written or is there already, if its suffix names no format,
            or if events that are wanted as JSON lines have no body any more.
        MissingExtraError: If Parquet is wanted, and pyarrow is not installed.
        QueryError: If a moment cannot be read, or the period is empty.
        LedgerError: If the ledger cannot be read.
    """
    path = None if target is None else Path(target)
    chosen, compressed = _format(path, format)
    wanted = Wanted(
        start=read_moment("start", start),
        end=read_moment("end", end),
        subjects=_chosen(subjects),
        types=_chosen(types),
        sources=_chosen(sources),
    )
    if wanted.start is not None and wanted.end is not None and wanted.start >= wanted.end:
        raise ExportError(f"start {rfc3339(wanted.start)} is not before end {rfc3339(wanted.end)}")
    if path is not None:
        path = check_target(path, overwrite=overwrite)
    extract = Extract(ledger.path, wanted)
    if chosen == "jsonl" and extract.has_pruned:
        raise _no_body(extract)
    events = pruned = 0
    with (
        opened(path, compressed=compressed, overwrite=overwrite) as file,
        contextlib.closing(writer_of(chosen, file)) as writer,
    ):
        for done, page in extract.pages():
            without_body = _without_body(page)
            if without_body and chosen == "jsonl":
                # They were pruned since the look at all of them.
                raise _no_body(Extract(ledger.path, wanted))
            writer.write(page)
            events += len(page)
            pruned += without_body
            on_progress(done, extract.last)
    return Exported(events=events, pruned=pruned, format=chosen)


def _format(path: Path | None, format: ExportFormat | None) -> tuple[ExportFormat, bool]:
    compressed = path is not None and path.suffix == _GZIP
    if format is None:
        if path is None:
            raise ExportError("the standard output has no suffix: name a format, jsonl or csv")
        suffix = (path.with_suffix("") if compressed else path).suffix.removeprefix(".")
        if suffix not in _FORMATS:
            raise ExportError(f"{path.name} names no format: {_SUFFIXES} do; or name one")
        format = suffix
    elif format not in _FORMATS:
        raise ExportError(f"{format!r} is no format; there are {', '.join(_FORMATS)}")
    if compressed and format == "parquet":
        raise ExportError("Parquet is compressed in itself: name a file without .gz")
    return format, compressed


def _chosen(values: Iterable[str] | None) -> tuple[str, ...] | None:
    if isinstance(values, str):
        raise ExportError(f"a list of names is wanted, got the text {values!r}")
    return None if values is None else tuple(values)


def _without_body(page: Iterable[StoredEvent]) -> int:
    return sum(not event.payload for event in page)


def _no_body(extract: Extract) -> ExportError:
    before = extract.pruned_before or 0
    moment = rfc3339(_EPOCH + timedelta(microseconds=before))
    return ExportError(
        f"the bodies of events before {moment} were pruned, so they cannot be written as JSON lines: "
        f"export from then on (--from {moment}), or their columns as CSV or Parquet"
    )
