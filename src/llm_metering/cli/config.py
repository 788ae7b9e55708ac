"""`llm-metering config`: what holds, and where it comes from."""

from __future__ import annotations

from ..settings import load_settings, unknown_variables
from .common import FormatOption, HomeOption, OutputFormat, console, print_json, show
from .views import settings_view

__all__ = ["config"]


def config(home: HomeOption = None, output: FormatOption = OutputFormat.TABLE) -> None:
    """Show every setting, its value and where it comes from; secrets are masked."""
    rows = load_settings(home=home).describe()
    if output is OutputFormat.JSON:
        print_json({row.setting: {"value": row.value, "origin": row.origin} for row in rows})
    else:
        show([settings_view(rows)])
    for name in unknown_variables():
        console(stderr=True).print(f"{name} is set, but there is no such setting")
