"""Options and output that the commands share."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..errors import HomeError

if TYPE_CHECKING:
    from ..settings import Settings
    from ..transport.operations import Owed
    from ..transport.retention import Retention
    from ..transport.spool import Debt, Spool

__all__ = [
    "FormatOption",
    "HomeOption",
    "OutputFormat",
    "console",
    "existing_spool",
    "exists",
    "living_json",
    "on_disk",
    "print_json",
    "progress",
    "show",
    "sink_json",
    "stopping",
    "take_in",
]

# Wider than any line: output that is read by a program or kept in a file is not wrapped.
_UNBOUNDED = 1_000_000
_COERCED = frozenset(["C.UTF-8", "C.UTF8", "UTF-8"])


class OutputFormat(StrEnum):
    """What `--format` offers."""

    TABLE = "table"
    JSON = "json"


FormatOption = Annotated[
    OutputFormat, typer.Option("--format", help="For people, or for programs.")
]
HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="FOLDER",
        help="The folder of the journal and the ledger.",
        show_default=False,
    ),
]


class _Console(Console):
    """Draws lines and bars in ASCII where the locale, or the encoding, has no other signs."""

    @property
    def encoding(self) -> str:
        # Python makes LC_CTYPE of a C locale C.UTF-8 (PEP 538); LANG still says what was asked for.
        kind = os.environ.get("LC_CTYPE", "")
        asked = "" if kind.upper() in _COERCED else kind
        locale = os.environ.get("LC_ALL") or asked or os.environ.get("LANG")
        return "ascii" if locale in ("C", "POSIX") else super().encoding


def console(*, stderr: bool = False) -> Console:
    """Where a command writes for people: text stays as it is, without markup or highlighting."""
    stream = sys.stderr if stderr else sys.stdout
    return _Console(
        stderr=stderr,
        width=None if stream.isatty() else _UNBOUNDED,
        markup=False,
        emoji=False,
        highlight=False,
    )


def show(parts: Iterable[RenderableType]) -> None:
    """Print what a view is made of."""
    out = console()
    for part in parts:
        out.print(part)


def print_json(value: Any) -> None:
    """Print `value`, and nothing else, to the standard output."""
    # In ASCII, so that it is the same in every locale.
    typer.echo(json.dumps(value, indent=2))


def exists(home: Path) -> bool:
    """Whether there is a home to read; reading never makes one.

    Raises:
        HomeError: If it is no folder, or this user may not look into it.
    """
    try:
        # More than a question: it fails where a look at the journal would.
        next(home.iterdir(), None)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise HomeError(f"cannot read {home}: {error.strerror}") from error
    return True


def existing_spool(home: Path, *, retention: Retention | None = None) -> Spool | None:
    """The journals of a home; `None` if nothing was ever recorded there.

    Args:
        home: The home.
        retention: What becomes of segments that every sink has had, where some may.

    Raises:
        HomeError: If this user may not look into it.
    """
    from ..transport.retention import Retention
    from ..transport.spool import Spool

    spool = Spool(home, retention=retention or Retention())
    if not exists(home) or not spool.folder.exists():
        return None
    return spool


def take_in(settings: Settings, patience: float) -> bool:
    """Have the ledger take what finished processes left; whether it has all that was recorded."""
    from ..meter import Meter

    # As `usage` does: with the ledger alone, and without a journal where there is none.
    has_journal = existing_spool(settings.home) is not None
    with Meter(
        home=settings.home,
        sinks=(),
        source=settings.source,
        ledger=True,
        durability="process" if has_journal else "memory",
    ) as reader:
        return reader.take_in(patience)


@contextlib.contextmanager
def on_disk(home: Path) -> Iterator[None]:
    """Turn what a disk refuses into one line for the person who can do something about it."""
    try:
        yield
    except HomeError:
        raise
    except OSError as error:
        raise HomeError(f"cannot use {home}: {error.strerror or error}") from error


def sink_json(debt: Debt) -> dict[str, str]:
    """What tells a sink from others, in what a program reads."""
    return {"id": debt.key, "name": debt.name, "url": debt.url, "account": debt.account}


def living_json(owed: Owed) -> list[dict[str, Any]]:
    """Who has events of a sink in hand, in what a program reads."""
    return [
        {"pid": each.pid, "host": each.host, "writer": each.writer, "events": each.events}
        for each in owed.living
    ]


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """Bars on the standard error while something takes long; only in a terminal."""
    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with bars:
        yield bars


@contextlib.contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Have Ctrl-C, and SIGTERM, end the work where it says how far it is; a second one at once."""
    seen: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        seen.append(number)
        if len(seen) > 1:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
