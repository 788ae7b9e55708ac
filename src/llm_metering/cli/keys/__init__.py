"""`llm-metering keys`: who may use a server of this home."""

from __future__ import annotations

import typer

from .listing import list_
from .making import create, rotate
from .revoking import revoke

__all__ = ["keys"]

keys = typer.Typer(
    no_args_is_help=True, help="Make, list, replace and take back the API keys of a server."
)
keys.command("create")(create)
keys.command("list")(list_)
keys.command("rotate")(rotate)
keys.command("revoke")(revoke)
