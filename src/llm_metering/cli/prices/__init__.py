"""`llm-metering prices`: what tokens cost, where that comes from, and what has no price."""

from __future__ import annotations

import typer

from .explaining import explain
from .importing import import_
from .listing import list_
from .missing import missing

__all__ = ["prices"]

prices = typer.Typer(no_args_is_help=True, help="See what tokens cost, and import prices.")
prices.command("list")(list_)
prices.command("explain")(explain)
prices.command("import")(import_)
prices.command("missing")(missing)
