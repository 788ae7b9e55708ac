"""`llm-metering meters`: what can be asked about usage, and what an OpenMeter server needs for it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any

import typer

from ..errors import ConfigurationError
from ..meters import MeterDefinition
from ..settings import load_settings
from .common import FormatOption, OutputFormat, console, print_json, show
from .render import UNKNOWN, Listing, plain

__all__ = ["meters"]


class Shape(StrEnum):
    """What `--shape` offers."""

    CALL = "call"
    KIND = "kind"
    OPENAI = "openai"
    LITELLM = "litellm"


class API(StrEnum):
    """What `--api` offers."""

    V1 = "v1"
    V3 = "v3"


def meters(
    shape: Annotated[
        Shape, typer.Option("--shape", help="For a server that is sent events in this shape.")
    ] = Shape.CALL,
    event_type: Annotated[
        str | None,
        typer.Option(
            "--event-type",
            metavar="TYPE",
            help="For a server that is sent events of this type.",
            show_default=False,
        ),
    ] = None,
    api: Annotated[
        API, typer.Option("--api", help="Which API of OpenMeter the JSON is for.")
    ] = API.V1,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """List the meters, built-in and your own; in JSON as OpenMeter's API takes them."""
    # Imported here, so that `--help` and a mistyped option answer at once.
    from ..settings.delivering import EVENT_TYPE_WANTED, is_event_type
    from ..sinks.shaped_meters import create_body, meter_in_shape

    if event_type is not None and not is_event_type(event_type):
        raise ConfigurationError("--event-type", f"{EVENT_TYPE_WANTED}, got {event_type!r}")
    known = load_settings().meters
    shaped = {
        slug: meter_in_shape(meter, shape.value, event_type=event_type)
        for slug, meter in known.items()
    }
    fitting = [meter for meter in shaped.values() if meter is not None]
    if output is OutputFormat.JSON:
        print_json([create_body(meter, api.value) for meter in fitting])
    else:
        show([_view(fitting)])
    if unsaid := [slug for slug, meter in shaped.items() if meter is None]:
        console(stderr=True).print(
            f"shape {shape.value} does not send what these meters need: {', '.join(unsaid)}"
        )


def _view(listed: Iterable[MeterDefinition]) -> Listing:
    titles = ("meter", "aggregation", "value", "event type", "group by", "estimates", "description")
    return Listing(titles, (), [_cells(meter) for meter in listed])


def _cells(meter: MeterDefinition) -> tuple[str, ...]:
    keys = (
        key if path == f"$.{key}" else f"{key} ({path})" for key, path in meter.group_by.items()
    )
    cells: tuple[Any, ...] = (
        meter.slug,
        meter.aggregation,
        meter.value_property or UNKNOWN,
        meter.event_type,
        ", ".join(keys) or UNKNOWN,
        "count" if meter.estimates else "left out",
        meter.description or UNKNOWN,
    )
    return tuple(map(plain, cells))
