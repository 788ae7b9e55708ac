"""`llm-metering prices import`: prices in LiteLLM's shape, as a price file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...errors import PriceError
from ..common import FormatOption, OutputFormat, console, print_json, show
from ..render import Listing, plain

__all__ = ["import_"]


def import_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="JSON in the shape of LiteLLM's list of prices.",
            show_default=False,
        ),
    ],
    target: Annotated[
        Path,
        typer.Option(
            "--output", metavar="FILE", help="The price file to write.", show_default=False
        ),
    ],
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Write a price file from LiteLLM's list of prices; what it cannot say is listed."""
    from ...prices.files import check_text
    from ...prices.litellm import read_litellm

    try:
        content = file.read_bytes()
    except OSError as error:
        raise PriceError(f"{file}: cannot be read: {error.strerror or error}") from error
    imported = read_litellm(content, file.name)
    # What is written can be read: nobody finds out later.
    check_text(imported.text, str(target))
    try:
        with target.open("w" if force else "x", encoding="utf-8", newline="\n") as opened:
            opened.write(imported.text)
    except FileExistsError as error:
        raise PriceError(f"{target}: it is there already; --force overwrites it") from error
    except OSError as error:
        raise PriceError(f"{target}: cannot be written: {error.strerror or error}") from error
    if output is OutputFormat.JSON:
        left_out = [{"model": model, "what": what} for model, what in imported.left_out]
        counts = {"models": imported.models, "rows": imported.rows}
        print_json({**counts, "file": str(target), "leftOut": left_out})
        return
    rows = [(plain(model), plain(what)) for model, what in imported.left_out]
    if rows:
        show([Listing(("model", "not in the file as it is there"), (), rows)])
    done = f"{imported.rows} rows of {imported.models} models in {plain(str(target))}"
    console(stderr=True).print(done)
