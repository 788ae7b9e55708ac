"""`llm-metering replay`: offer a sink again what was recorded."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigurationError, LedgerError, QueryError
from ..meters import read_moment
from ..settings import Settings, load_settings
from ..sinks.base import Sink
from .common import (
    FormatOption,
    HomeOption,
    OutputFormat,
    exists,
    on_disk,
    print_json,
    progress,
    show,
    sink_json,
    stopping,
)
from .drain import LEFT
from .periods import moment
from .render import amount, plain
from .replayed import replayed_view
from .tally import delivery_notes

if TYPE_CHECKING:
    from ..ledger import Ledger
    from ..transport.operations import Records, Replayed

__all__ = ["replay"]


class Origin(StrEnum):
    """What `--from` offers."""

    LEDGER = "ledger"
    JOURNAL = "journal"


def replay(
    since: Annotated[
        str,
        typer.Option(
            "--since",
            metavar="TIME",
            help="First moment: a day in UTC, or ISO 8601 with offset.",
            show_default=False,
        ),
    ],
    sink: Annotated[
        str,
        typer.Option(
            "--sink", metavar="SINK", help="The sink, by its name or URL.", show_default=False
        ),
    ],
    until: Annotated[
        str | None,
        typer.Option(
            "--until", metavar="TIME", help="First moment after the period.", show_default=False
        ),
    ] = None,
    origin: Annotated[
        Origin | None,
        typer.Option(
            "--from",
            help="Where the events are read; the ledger if there is one.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            min=0.0,
            help="How long to try while the sink takes nothing.",
        ),
    ] = 60.0,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    home: HomeOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Offer a sink again what was recorded, under the same ids; exit code 3 if it did not take all of it."""
    # Imported here, so that `--help` and a mistyped option answer at once.
    from ..opening import open_ledger
    from ..transport.operations import replay as run_replay

    start, end = _period(since, until)
    settings = load_settings(home=home)
    ledger = open_ledger(settings)
    target = _target(settings, ledger, sink)
    # The report says what would be logged, and a bar is no place for log lines.
    logging.getLogger("llm_metering").addHandler(logging.NullHandler())
    with on_disk(settings.home):
        exists(settings.home)
        source, records = _records(settings, ledger, target, origin, start, end)
    with contextlib.closing(records), contextlib.closing(target):
        if records.total and not yes:
            _ask(target, records.total, start)
        with (
            stopping() as should_stop,
            on_disk(settings.home),
            _noted(settings, target) if records.total else contextlib.nullcontext(),
            progress() as bars,
        ):
            task = bars.add_task(plain(target.name), total=records.total)
            replayed = run_replay(
                records,
                target,
                timeout=timeout,
                should_stop=should_stop,
                on_progress=lambda done: bars.update(task, completed=done),
            )
        report = {
            "home": str(settings.home),
            "from": source.value,
            "source": settings.source,
            "since": _text(start),
            "until": _text(end),
            **_report(target, replayed),
            "notes": _notes(settings, source, records.unreadable),
        }
        if replayed.gone and source is Origin.LEDGER and ledger is not None:
            report["notes"] += _pruned(ledger)
    if output is OutputFormat.JSON:
        print_json(report)
    else:
        show(replayed_view(report))
    if not replayed.complete:
        raise typer.Exit(LEFT)


@contextlib.contextmanager
def _noted(settings: Settings, target: Sink) -> Iterator[None]:
    """Leave a note for `reconcile`: what the sink was just offered may not be listed yet."""
    from ..reconcile.attempts import note_replay
    from ..transport.spool import debt_of

    def note() -> None:
        # A home that cannot be written to can still be replayed; nothing is sent again from it.
        with contextlib.suppress(OSError):
            note_replay(settings.home, debt_of(target))

    note()
    try:
        yield
    finally:
        note()


def _period(since: str, until: str | None) -> tuple[datetime | None, datetime | None]:
    start, end = read_moment("--since", moment(since)), read_moment("--until", moment(until))
    if start and end and start >= end:
        raise QueryError(f"--since ({_text(start)}) must be before --until ({_text(end)})")
    return start, end


def _target(settings: Settings, ledger: Ledger | None, wanted: str) -> Sink:
    from ..limiting import own_sinks
    from ..opening import open_sinks

    sinks = open_sinks(settings, own_sinks(settings, ledger), ())
    chosen = [each for each in sinks if wanted in (each.name, each.url)]
    if not chosen:
        known = ", ".join(each.name for each in sinks) or "none"
        raise ConfigurationError("sink", f"no sink {wanted!r} is configured; there are: {known}")
    return chosen[0]


def _records(
    settings: Settings,
    ledger: Ledger | None,
    target: Sink,
    origin: Origin | None,
    start: datetime | None,
    end: datetime | None,
) -> tuple[Origin, Records]:
    """Where the events are read, and these."""
    from ..transport.operations import JournalRecords, LedgerRecords
    from ..transport.spool import Spool

    if origin is Origin.LEDGER and ledger is None:
        raise LedgerError(
            f"the ledger is switched off ({settings.origins['ledger']}); try --from journal"
        )
    if origin is Origin.LEDGER and target is ledger:
        raise ConfigurationError("--from", "the ledger has what it has; --from journal fills it")
    is_there = ledger is not None and target is not ledger and ledger.path.exists()
    if ledger is not None and (origin is Origin.LEDGER or (origin is None and is_there)):
        try:
            records = LedgerRecords(ledger, source=settings.source, start=start, end=end)
        except LedgerError:
            if origin is Origin.LEDGER:
                raise
        else:
            return Origin.LEDGER, records
    spool = Spool(settings.home)
    return Origin.JOURNAL, JournalRecords(spool, source=settings.source, start=start, end=end)


def _ask(sink: Sink, events: int, start: datetime | None) -> None:
    """Make sure that a person knows what an event that is sent twice does to a bill."""
    limits = sink.limits
    known = _DEDUPE[limits.dedupe]
    window = limits.dedupe_window
    if (
        known is None
        and window is not None
        and (start is None or datetime.now(UTC) - start > window)
    ):
        known = f"forgets after {window} which events it has had, and counts older ones once more"
    if known is None:
        return
    question = (
        f"{plain(sink.name)} ({plain(sink.url)}) {known}. Send it {amount(events)} events, some of "
        "which it may have?"
    )
    if not sys.stdin.isatty():
        raise ConfigurationError("--yes", f"{question} Without a terminal, --yes says so")
    typer.confirm(question, err=True, abort=True)


_DEDUPE: dict[str, str | None] = {
    "always": None,
    "optional": "counts an event once that is sent twice only if its operator switched that on",
    "never": "counts an event twice that is sent twice",
    "unknown": "does not say whether it counts an event once that is sent twice",
}


def _report(sink: Sink, replayed: Replayed) -> dict[str, Any]:
    from ..transport.spool import debt_of

    return {
        "sink": sink_json(debt_of(sink)),
        "complete": replayed.complete,
        "events": replayed.events,
        "taken": replayed.taken,
        "rejected": replayed.rejected,
        "rejections": [{"id": each.id, "reason": each.reason} for each in replayed.rejections],
        "gone": replayed.gone,
        "left": replayed.events - replayed.taken - replayed.rejected - replayed.gone,
        "next_since": _text(replayed.next_since),
        "reason": replayed.reason,
    }


def _notes(settings: Settings, origin: Origin, unreadable: int) -> list[str]:
    """What may be missing from what was offered."""
    from ..transport.status import home_status

    if origin is Origin.LEDGER:
        return delivery_notes(home_status(settings.home))
    return [f"{amount(unreadable)} records or segments cannot be read"] if unreadable else []


def _pruned(ledger: Ledger) -> list[str]:
    """Why events were gone."""
    with contextlib.closing(ledger):
        before = ledger.pruned_before()
    if before is None:
        return []
    return [f"bodies of events before {_text(before)} were given up: the ledger cannot send these"]


def _text(time: datetime | None) -> str | None:
    # To the microsecond: rounded up, it would leave an event out.
    return None if time is None else time.isoformat().removesuffix("+00:00") + "Z"
