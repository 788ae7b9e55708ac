"""`llm-metering reconcile`: what a server counts, compared with what was recorded."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress, TaskID

from ..errors import ConfigurationError, LedgerError, QueryError, ReconcileError
from ..meters import read_moment
from ..settings import Settings, load_settings
from .common import (
    FormatOption,
    HomeOption,
    OutputFormat,
    exists,
    on_disk,
    print_json,
    progress,
    show,
    stopping,
)
from .drain import LEFT
from .periods import moment
from .reconciled import reconciled_view
from .render import amount, plain

if TYPE_CHECKING:
    from ..ledger import Ledger
    from ..reconcile import Reconciler
    from ..sinks.openmeter import OpenMeterSink

__all__ = ["reconcile"]

FAULTS = 1
"""Exit code: the server does not have what was recorded, or not as it was."""
_SETTLE = 30.0
_LAG = 3600.0
_SPAN = timedelta(hours=24)
_MINUTE = timedelta(minutes=1)


def reconcile(
    sink: Annotated[
        str | None,
        typer.Option(
            "--sink",
            metavar="SINK",
            help="An OpenMeter sink, by its name or URL; needed if there are several.",
            show_default=False,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="TIME",
            help="First minute: a day in UTC, or ISO 8601 with offset; 24 hours before the end if left out.",
            show_default=False,
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            "--until",
            metavar="TIME",
            help="First minute after the span; this one if left out.",
            show_default=False,
        ),
    ] = None,
    settle: Annotated[
        float,
        typer.Option(
            "--settle",
            metavar="SECONDS",
            min=0.0,
            max=3600.0,
            help="How long to wait before a second look for what is not listed.",
        ),
    ] = _SETTLE,
    lag: Annotated[
        float,
        typer.Option(
            "--lag",
            metavar="SECONDS",
            min=0.0,
            help="How far the server may be behind; 0 says that it never is.",
        ),
    ] = _LAG,
    resend: Annotated[
        bool, typer.Option("--resend", help="Send what is missing once more, under the same ids.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Send even what was sent again in vain."),
    ] = False,
    complete: Annotated[
        bool,
        typer.Option(
            "--complete",
            help="This ledger has all that the server counts: other events and totals are faults too.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    home: HomeOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Compare a server with what was recorded; exit code 1 if it is wrong, 3 if that is not sure yet."""
    # Imported here, so that `--help` and a mistyped option answer at once.
    from ..opening import open_ledger, retention_of
    from ..reconcile import Reconciler
    from .reconciliation import describe

    start, end = _span(since, until)
    settings = load_settings(home=home)
    ledger = open_ledger(settings)
    if ledger is None:
        raise LedgerError(f"the ledger is switched off ({settings.origins['ledger']})")
    target = _target(settings, ledger, sink)
    if resend and not yes and not sys.stdin.isatty():
        raise ConfigurationError("--yes", "without a terminal to ask at, --resend needs --yes")
    # The report says what would be logged, and a bar is no place for log lines.
    logging.getLogger("llm_metering").addHandler(logging.NullHandler())
    with on_disk(settings.home):
        exists(settings.home)
    notes: list[str] = []
    with (
        contextlib.closing(ledger),
        contextlib.closing(target),
        stopping() as should_stop,
        on_disk(settings.home),
        _shown() as bars,
        _interruptible(),
        Reconciler(
            settings.home,
            sink=target,
            ledger=ledger,
            source=settings.source,
            start=start,
            end=end,
            retention=retention_of(settings),
            settle=settle,
            lag=lag,
            force=force,
            should_stop=should_stop,
            on_progress=bars.report,
        ) as reconciler,
    ):
        if not reconciler.span.total:
            _check_source(settings, ledger)
        reconciler.compare()
        bars.pause()
        try:
            if resend:
                _send_again(reconciler, target, bars, yes=yes)
            bars.pause()
            reconciler.add_totals()
        except KeyboardInterrupt:
            notes.append("interrupted; run it again to see what arrived")
        except ReconcileError as error:
            notes.append(str(error))
        report = describe(
            reconciler,
            settings=settings,
            sink=target,
            settle=settle,
            lag=lag,
            complete=complete,
            notes=notes,
        )
    if output is OutputFormat.JSON:
        print_json(report)
    else:
        show(reconciled_view(report))
    if report["verdict"] != "well":
        raise typer.Exit(FAULTS if report["verdict"] == "faults" else LEFT)


def _span(since: str | None, until: str | None) -> tuple[datetime, datetime]:
    """Whole minutes, since totals are compared by them."""
    end = read_moment("--until", moment(until)) or _floor(datetime.now(UTC))
    if end != _floor(end):
        end = _floor(end) + _MINUTE
    start = read_moment("--since", moment(since)) or end - _SPAN
    start = _floor(start)
    if start >= end:
        raise QueryError(
            f"--since ({start:%Y-%m-%dT%H:%MZ}) must be before --until ({end:%Y-%m-%dT%H:%MZ})"
        )
    return start, end


def _floor(time: datetime) -> datetime:
    return time.replace(second=0, microsecond=0)


def _target(settings: Settings, ledger: Ledger, wanted: str | None) -> OpenMeterSink:
    from ..opening import open_sinks
    from ..sinks.openmeter import OpenMeterSink

    sinks = open_sinks(settings, [ledger], ())
    chosen = [
        each
        for each in sinks
        if isinstance(each, OpenMeterSink) and wanted in (None, each.name, each.url)
    ]
    if len(chosen) == 1:
        return chosen[0]
    known = ", ".join(each.name for each in sinks if isinstance(each, OpenMeterSink))
    if chosen:
        raise ConfigurationError("--sink", f"there are several OpenMeter sinks: {known}; name one")
    named = "" if wanted is None else f" {wanted!r}"
    raise ConfigurationError(
        "--sink", f"no OpenMeter sink{named} is configured; there are: {known or 'none'}"
    )


def _check_source(settings: Settings, ledger: Ledger) -> None:
    """Refuse to call usage well of which there is none here, while there is that of others.

    Raises:
        ConfigurationError: As in a cron job that does not have the settings of the application.
    """
    sources = ledger.sources()
    if sources and settings.source not in sources:
        raise ConfigurationError(
            "source",
            f"nothing was ever recorded as {settings.source!r} ({settings.origins['source']}) in "
            f"{settings.home}, but as {', '.join(map(repr, sources))}; LLM_METERING_SOURCE says whose "
            "usage is compared",
        )


def _send_again(reconciler: Reconciler, sink: OpenMeterSink, bars: _Bars, *, yes: bool) -> None:
    events = reconciler.to_resend()
    if not events:
        return
    if not yes:
        bars.pause()
        if not typer.confirm(
            f"{plain(sink.name)} ({plain(sink.url)}) counts an event once that is sent twice only if "
            f"its operator switched that on. Send it {amount(len(events))} events again that it "
            "does not list?",
            err=True,
        ):
            return
    reconciler.resend(events)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C from the first request on; what is sent again has a report, whoever ends it."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("llm-metering: interrupted; nothing was sent again", err=True)
        raise typer.Exit(LEFT) from None


class _Bars:
    """Shows how far a reconciliation is."""

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._stack = contextlib.ExitStack()

    def report(self, what: str, done: int, total: int) -> None:
        """So many of so many events are done."""
        if self._bars is None:
            self._bars = self._stack.enter_context(progress())
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(_DOING[what], total=total)
        self._bars.update(self._tasks[what], completed=done, total=total)

    def pause(self) -> None:
        """Take the bars away, for a question or a report."""
        self._stack.close()
        self._bars = None
        self._tasks.clear()


_DOING = {
    "look": "looking",
    "settle": "waiting for the server",
    "look again": "looking again",
    "resend": "sending again",
}


@contextlib.contextmanager
def _shown() -> Iterator[_Bars]:
    bars = _Bars()
    try:
        yield bars
    finally:
        bars.pause()
