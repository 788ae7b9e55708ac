"""`llm-metering keys list`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from ...settings import load_settings
from ..common import FormatOption, HomeOption, OutputFormat, print_json, show
from .views import key_json, keys_view, state

__all__ = ["list_"]


def list_(
    all_: Annotated[
        bool, typer.Option("--all", help="Also those that hold no more.", show_default=False)
    ] = False,
    home: HomeOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """List the API keys of a server, without their secrets."""
    settings = load_settings(home=home)
    now = datetime.now(UTC)
    from ...access import ApiKeys

    found = ApiKeys(settings.home).all()
    keys = [key for key in found if all_ or state(key, now) == "holds"]
    if output is OutputFormat.JSON:
        print_json({"home": str(settings.home), "keys": [key_json(key, now) for key in keys]})
    elif keys:
        show([keys_view(keys, now)])
    else:
        rest = f"; {len(found)} hold no more (--all)" if found else ""
        show([f"There are no keys{rest}"])
