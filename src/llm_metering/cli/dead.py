"""`llm-metering dead`: the events that a sink refused for good."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigurationError
from ..settings import load_settings
from .common import (
    FormatOption,
    HomeOption,
    OutputFormat,
    existing_spool,
    on_disk,
    print_json,
    progress,
    show,
)
from .render import plain
from .views import letters_view, remarks_view, retried_view

if TYPE_CHECKING:
    from ..transport.operations import Letter, Letters
    from ..transport.spool import Spool

__all__ = ["dead"]

dead = typer.Typer(
    no_args_is_help=True, help="List, retry or export events that a sink refused for good."
)

SinkOption = Annotated[
    str | None,
    typer.Option(
        "--sink",
        metavar="SINK",
        help="Of this sink alone, by its name or URL.",
        show_default=False,
    ),
]


@dead.command("list")
def list_(
    sink: SinkOption = None, home: HomeOption = None, output: FormatOption = OutputFormat.TABLE
) -> None:
    """Show which events are dead, and why."""
    folder = load_settings(home=home).home
    letters = _letters(existing_spool(folder), sink)
    report = [_described(letter) for letter in letters.letters]
    if output is OutputFormat.JSON:
        print_json({"home": str(folder), "dead": report, "unreadable": letters.unreadable})
    else:
        show([*letters_view(report), *remarks_view(_remarks(letters))])


@dead.command("retry")
def retry(
    sink: SinkOption = None,
    event: Annotated[
        list[str] | None,
        typer.Option(
            "--id", metavar="ID", help="This event alone; may be repeated.", show_default=False
        ),
    ] = None,
    home: HomeOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Put dead events back, to be delivered once more to the sink that refused them."""
    from ..transport.operations import Retried, retry_letters

    folder = load_settings(home=home).home
    spool = existing_spool(folder)
    letters = _letters(spool, sink)
    wanted = set(event or ())
    missing = wanted - {letter.id for letter in letters.letters}
    if missing:
        listed = ", ".join(sorted(map(plain, missing)))
        raise ConfigurationError("id", f"no such event is dead: {listed}")
    retried = Retried(events={}, waiting=0, unknown=0)
    if spool is not None and letters.letters:
        with on_disk(spool.home), progress() as bars:
            task = bars.add_task("dead events", total=None)
            retried = retry_letters(
                spool,
                lambda letter: not wanted or letter.id in wanted,
                key=_key(spool, sink),
                on_progress=lambda done, total: bars.update(task, completed=done, total=total),
            )
    names = {letter.key: letter.sink for letter in letters.letters}
    report = {
        "home": str(folder),
        "retried": sum(retried.events.values()),
        "sinks": [
            {"id": key, "name": names.get(key, key), "retried": amount}
            for key, amount in retried.events.items()
        ],
        "still_pending": retried.waiting,
        "unknown_sink": retried.unknown,
    }
    if output is OutputFormat.JSON:
        print_json(report)
    else:
        show(retried_view(report))


@dead.command("export")
def export(
    file: Annotated[
        Path, typer.Option("--output", metavar="FILE", help="The file.", show_default=False)
    ],
    sink: SinkOption = None,
    home: HomeOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Write dead events into a file, each with its reason, one JSON document a line."""
    import msgspec

    from ..system import replace_file

    letters = _letters(existing_spool(load_settings(home=home).home), sink)
    lines = (
        msgspec.json.encode(
            {
                "sink": letter.sink,
                "reason": letter.reason,
                "time": letter.time,
                "attempts": letter.attempts,
                "event": msgspec.Raw(letter.payload),
            }
        )
        + b"\n"
        for letter in letters.letters
    )
    if file.exists():
        raise ConfigurationError("output", f"{file} is there already")
    try:
        # Whole or not at all, and for its owner's eyes: it says who used what.
        replace_file(file, b"".join(lines))
    except OSError as error:
        raise ConfigurationError("output", f"cannot write {file}: {error.strerror}") from error
    if output is OutputFormat.JSON:
        print_json({"file": str(file), "exported": len(letters.letters)})
    else:
        show(
            [
                f"{len(letters.letters):,} dead events are in {plain(str(file))}",
                *remarks_view(_remarks(letters)),
            ]
        )


def _letters(spool: Spool | None, sink: str | None) -> Letters:
    from ..transport.operations import Letters, read_letters

    if spool is None:
        if sink is not None:
            raise ConfigurationError("sink", f"nothing was ever owed to {sink!r} here")
        return Letters(letters=(), unreadable=0)
    with on_disk(spool.home):
        return read_letters(spool, _key(spool, sink))


def _key(spool: Spool, sink: str | None) -> str | None:
    from ..transport.operations import find_debt

    return None if sink is None else find_debt(spool, sink).key


def _described(letter: Letter) -> Mapping[str, Any]:
    return {
        "sink": letter.sink,
        "id": letter.id,
        "source": letter.source,
        "reason": letter.reason,
        "time": letter.time,
        "attempts": letter.attempts,
        **letter.describe(),
    }


def _remarks(letters: Letters) -> list[str]:
    if not letters.unreadable:
        return []
    return [f"{letters.unreadable:,} lines of the dead letters cannot be read"]
