"""`llm-metering status`: every event of a home accounted for."""

from __future__ import annotations

from ..settings import load_settings
from .common import FormatOption, HomeOption, OutputFormat, exists, print_json, show
from .views import nothing_recorded, status_view

__all__ = ["status"]


def status(home: HomeOption = None, output: FormatOption = OutputFormat.TABLE) -> None:
    """Show what was recorded and what became of it, sink by sink."""
    from ..transport.status import home_status

    settings = load_settings(home=home)
    # From the files alone: asking how things stand must neither need the sinks nor ship.
    exists(settings.home)
    statistics = home_status(settings.home)
    if output is OutputFormat.JSON:
        print_json(statistics)
    elif not statistics["recorded"] and not statistics["sinks"]:
        show([nothing_recorded(settings.home)])
    else:
        show(status_view(statistics))
