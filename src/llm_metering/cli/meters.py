"""`llm-metering meters`: what can be asked about usage, and what an OpenMeter server needs for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer

from ..errors import ConfigurationError
from ..meters import MeterDefinition
from ..settings import Settings, load_settings
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
    create: Annotated[
        str | None,
        typer.Option(
            "--create",
            metavar="SINK",
            help="Create on the server of this OpenMeter sink what it has not.",
            show_default=False,
        ),
    ] = None,
    shape: Annotated[
        Shape | None,
        typer.Option(
            "--shape",
            help="For a server that is sent events in this shape; call by default.",
            show_default=False,
        ),
    ] = None,
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
        API | None,
        typer.Option(
            "--api",
            help="Which API of OpenMeter the JSON is for; v1 by default.",
            show_default=False,
        ),
    ] = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """List the meters, built-in and your own; in JSON as OpenMeter's API takes them."""
    # Imported here, so that `--help` and a mistyped option answer at once.
    from ..settings.delivering import EVENT_TYPE_WANTED, is_event_type
    from ..sinks.shaped_meters import create_body

    if event_type is not None and not is_event_type(event_type):
        raise ConfigurationError("--event-type", f"{EVENT_TYPE_WANTED}, got {event_type!r}")
    settings = load_settings()
    if create is not None:
        if shape or event_type or api:
            wanted = "it says which shape, type and API there are, so leave the other options out"
            raise ConfigurationError("--create", wanted)
        _create(settings, create, output)
        return
    fitting = _fitting(settings, (shape or Shape.CALL).value, event_type)
    if output is OutputFormat.JSON:
        print_json([create_body(meter, (api or API.V1).value) for meter in fitting])
    else:
        show([_view(fitting)])


def _fitting(settings: Settings, shape: str, event_type: str | None) -> list[MeterDefinition]:
    """The meters for what is sent; those that it has no words for are named."""
    from ..sinks.shaped_meters import meter_in_shape

    shaped = {
        slug: meter_in_shape(meter, shape, event_type=event_type)
        for slug, meter in settings.meters.items()
        if meter.book is None  # what no server can count
    }
    if unsaid := [slug for slug, meter in shaped.items() if meter is None]:
        console(stderr=True).print(
            f"shape {shape} does not send what these meters need: {', '.join(unsaid)}"
        )
    return [meter for meter in shaped.values() if meter is not None]


def _create(settings: Settings, name: str, output: OutputFormat) -> None:
    from ..opening import open_sinks
    from ..sinks.creating_meters import create_meters
    from ..sinks.openmeter import OpenMeterSink
    from ..sinks.shapes import event_type_of

    opened = open_sinks(settings, (), ())
    sinks = [each for each in opened if isinstance(each, OpenMeterSink)]
    sink = next((each for each in sinks if name in (each.name, each.url)), None)
    if sink is None:
        known = ", ".join(each.name for each in sinks)
        raise ConfigurationError(
            "--create", f"no OpenMeter sink {name!r} is configured; there are: {known or 'none'}"
        )
    # Another type than the shape's own was asked for, and is that of everything.
    event_type = None if sink.event_type == event_type_of(sink.shape) else sink.event_type
    made = list(create_meters(sink, _fitting(settings, sink.shape, event_type)))
    for each in opened:
        each.close()
    if output is OutputFormat.JSON:
        print_json([asdict(each) for each in made])
    else:
        lines = [(each.slug, each.outcome, plain(each.detail or UNKNOWN)) for each in made]
        show([Listing(("meter", "", "detail"), (), lines)])
    if any(each.outcome in ("differs", "failed") for each in made):
        raise typer.Exit(1)


def _view(listed: Iterable[MeterDefinition]) -> Listing:
    titles = ("meter", "aggregation", "value", "event type", "group by", "estimates", "description")
    return Listing(titles, (), [_cells(meter) for meter in listed], lead=1)


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
