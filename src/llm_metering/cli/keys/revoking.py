"""`llm-metering keys revoke`."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from ...settings import load_settings
from ..common import FormatOption, HomeOption, OutputFormat, print_json, show

__all__ = ["revoke"]

WAS_REVOKED: Final = 1
"""Exit code: it had been taken back before."""


def revoke(
    id: Annotated[str, typer.Argument(metavar="KEY", help="The id of the key.")],
    home: HomeOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Take an API key back: it holds no more, at once and on every server of this home."""
    settings = load_settings(home=home)
    from ...access import ApiKeys, AuditLog
    from ...access.audit import person

    done = ApiKeys(settings.home).revoke(id)
    if done:
        AuditLog(settings.home).note("key.revoke", actor=person(), key=id)
    if output is OutputFormat.JSON:
        print_json({"home": str(settings.home), "id": id, "revoked": done})
    else:
        show([f"{id} is taken back" if done else f"{id} had been taken back before"])
    if not done:
        raise typer.Exit(WAS_REVOKED)
