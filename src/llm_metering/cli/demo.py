"""`llm-metering demo`: a real model on this machine, metered."""

from __future__ import annotations

import typer

from .common import FormatOption, OutputFormat, console

__all__ = ["demo"]


def demo(output: FormatOption = OutputFormat.TABLE) -> None:
    """Run a language model on this machine and meter it, without key or network."""
    # Imported here: it brings a framework and a model.
    from ..demo import run_demo

    # It finds the home by itself; the one from the file or the default holds real usage.
    raise typer.Exit(run_demo(console(), None, output.value))
