"""Options and output that the commands share."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType

from ..errors import HomeError

__all__ = ["FormatOption", "HomeOption", "OutputFormat", "console", "exists", "print_json", "show"]

# Wider than any line: output that is read by a program or kept in a file is not wrapped.
_UNBOUNDED = 1_000_000


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


def console(*, stderr: bool = False) -> Console:
    """Where a command writes for people: text stays as it is, without markup or highlighting."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(
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
