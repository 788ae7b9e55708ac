"""What `llm-metering replay` shows to people, made of the data that `--format json` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from .render import Listing, amount, plain
from .views import remarks_view

__all__ = ["replayed_view"]


def replayed_view(report: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What a sink took of what it was offered again, what it refused, and where to go on."""
    name = plain(report["sink"]["name"])
    yield Text(
        f"{name} has {amount(report['taken'])} of {amount(report['events'])} events that the "
        f"{report['from']} holds of {plain(report['source'])} in this period"
    )
    if report["rejections"]:
        yield Text()
        yield Listing(
            ("refused", "reason"),
            (),
            [(plain(each["id"]), plain(each["reason"])) for each in report["rejections"]],
        )
        yield Text()
    if report["rejected"]:
        yield Text(f"{amount(report['rejected'])} are refused for good")
    if report["gone"]:
        yield Text(f"{amount(report['gone'])} were gone when their turn came")
    if report["left"]:
        reason = plain(report["reason"] or "time was up")
        yield Text(
            f"{amount(report['left'])} are left: {reason}; go on with --since {report['next_since']}"
        )
    yield from remarks_view(report["notes"])
