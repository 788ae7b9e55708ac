"""`llm-metering limits`: what everybody may use, and how fast."""

from __future__ import annotations

import typer

from .listing import list_
from .rates import set_

__all__ = ["limits"]

limits = typer.Typer(
    no_args_is_help=True, help="List what subjects may use, and say how fast they may go."
)
limits.command("list")(list_)
limits.command("set")(set_)
