"""`llm-metering ingest`: the usage of many hosts, from a topic into the ledger of this home."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.live import Live
from rich.text import Text

from ..errors import ConfigurationError, LedgerError
from ..settings import load_settings
from .common import FormatOption, HomeOption, OutputFormat, console, exists, print_json, show
from .ingested import MOST_OMISSIONS, books_view, progress_line, report_view
from .render import plain

if TYPE_CHECKING:
    from ..ingest import Progress, TopicReader
    from ..ledger.intake import Intake
    from ..settings import Settings

__all__ = ["ingest"]

LEFT: Final = 3
"""Exit code: there were records that cannot be read any more, or an end that was not reached."""

SAY_PROGRESS_EVERY: Final = 600.0
"""Seconds, where no terminal shows it all the time."""

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def ingest(
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="URL", help="The topic: kafka://host:9092,host:9092/topic", show_default=False
        ),
    ] = None,
    until_end: Annotated[
        bool,
        typer.Option(
            "--until-end", help="Stop once everything is taken in that the topic has now."
        ),
    ] = False,
    show_books: Annotated[
        bool,
        typer.Option(
            "--show", help="Read nothing: show what was taken in so far, refused and lost."
        ),
    ] = False,
    home: HomeOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Take the events of a Kafka topic into the ledger, each once; exit code 3 if some were deleted unread."""
    settings = load_settings(home=home)
    if not settings.ledger:
        raise LedgerError(
            f"the ledger is switched off ({settings.origins['ledger']}), so there is nothing to "
            "take events into"
        )
    if show_books:
        _show(settings, output)
        return
    if url is None:
        raise ConfigurationError("URL", "a topic is wanted: kafka://host:9092/topic")
    # Imported here, so that `--help` and a mistyped option answer at once.
    from ..ingest import Ingester, TopicReader
    from ..ledger.intake import Intake

    # What librdkafka logs of connections that come and go; what matters is said by us.
    logging.getLogger("llm_metering").addHandler(logging.NullHandler())
    with (
        contextlib.closing(TopicReader(url, settings.credentials)) as reader,
        contextlib.closing(
            Intake(settings.home / "ledger.db", keys=settings.ledger_keys)
        ) as intake,
        _until_told() as stop,
        _screen() as (say, on_progress),
    ):
        ingester = Ingester(
            reader,
            intake,
            home=settings.home,
            until_end=until_end,
            say=say,
            on_progress=on_progress,
        )
        ingester.run(stop)
        progress = ingester.progress
    report = _report(settings, reader, progress)
    is_short = until_end and not progress.is_complete
    if output is OutputFormat.JSON:
        print_json(report)
    else:
        show(report_view(report))
    if is_short:
        console(stderr=True).print(
            "llm-metering: stopped before the end: the rest was not taken in"
        )
    if is_short or report["lost"] or report["anew"]:
        raise typer.Exit(LEFT)


def _report(settings: Settings, reader: TopicReader, progress: Progress) -> dict[str, Any]:
    return {
        "home": str(settings.home),
        "topic": reader.url,
        "cluster": reader.cluster,
        "complete": progress.is_complete,
        **_taken_json(progress.taken),
        "anew": progress.anew,
        "lag": progress.behind,
        "partitions": [
            {
                "partition": each.partition,
                "next_offset": each.next_offset,
                "lag": each.behind,
                **_taken_json(each.taken),
            }
            for each in progress.partitions
        ],
    }


def _taken_json(taken: Any) -> dict[str, int]:
    return {name: getattr(taken, name) for name in ("new", "repeated", "refused", "lost")}


def _show(settings: Settings, output: OutputFormat) -> None:
    from ..ledger.intake import Intake

    exists(settings.home)  # or it says why it cannot be looked into
    with contextlib.closing(
        Intake(settings.home / "ledger.db", keys=settings.ledger_keys)
    ) as intake:
        report = {"home": str(settings.home), **_books(intake)}
    if output is OutputFormat.JSON:
        print_json(report)
    else:
        show(books_view(report))


def _books(intake: Intake) -> dict[str, Any]:
    return {
        "partitions": [
            {
                "cluster": each.cluster,
                "topic": each.topic,
                "partition": each.partition,
                "next_offset": each.next_offset,
                **_taken_json(each.taken),
            }
            for each in intake.books()
        ],
        "omissions": [
            {
                "cluster": cluster,
                "topic": topic,
                "partition": partition,
                "kind": each.kind,
                "first_offset": each.first,
                "last_offset": None if each.end is None else each.end - 1,
                "records": each.records,
                "reason": each.reason,
                "seen": seen.isoformat(timespec="seconds"),
            }
            for cluster, topic, partition, each, seen in intake.omissions(MOST_OMISSIONS)
        ],
    }


@contextlib.contextmanager
def _until_told() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set."""
    stop = threading.Event()
    told: SimpleQueue[int] = SimpleQueue()

    def listen() -> None:
        told.get()
        stop.set()

    # Not `stop.set` in the handler: it would wait for a lock that what it interrupts may hold. To
    # put something into this queue never waits.
    threading.Thread(target=listen, name="llm-metering-signals", daemon=True).start()
    before = {each: signal.signal(each, lambda number, _: told.put(number)) for each in _SIGNALS}
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        told.put(0)


@contextlib.contextmanager
def _screen() -> Iterator[tuple[Callable[[str], None], Callable[[Progress], None]]]:
    """How to say something, and how to show how far we are: on the standard error."""
    out = console(stderr=True)

    def say(line: str) -> None:
        out.print(f"llm-metering: {plain(line)}")

    if not out.is_terminal:
        next_at = time.monotonic() + SAY_PROGRESS_EVERY

        def say_progress(progress: Progress) -> None:
            nonlocal next_at
            if time.monotonic() >= next_at:
                next_at = time.monotonic() + SAY_PROGRESS_EVERY
                say(progress_line(progress))

        yield say, say_progress
        return
    with Live(console=out, transient=True, auto_refresh=False) as live:
        yield (
            say,
            lambda progress: live.update(Text(progress_line(progress)), refresh=True),
        )
