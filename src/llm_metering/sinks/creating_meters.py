"""Creating on an OpenMeter server the meters that it lacks; what is there stays as it is.

Source: `createMeter` of `api/openapi.yaml` (v1) and `create-meter` of `api/v3/openapi.yaml`; a slug that
is there is refused with 409 (`openmeter/meter/adapter/manage.go`), all of
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from ..errors import MeterError, MeteringError
from ..meters import MeterDefinition, parse_path
from .asking import NETWORK_LIMIT, Asker, Reply, UnreachableError
from .openmeter import OpenMeterSink
from .reasons import shorten
from .server_meters import METER_LISTS, ServerMeter, read_meters
from .shaped_meters import create_body

__all__ = ["Creation", "create_meters"]

_CONFLICT: Final = 409


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """What became of one meter.

    Attributes:
        slug: Its name.
        outcome: `created`; `there` already; `differs`: there is one of that name that counts
            something else, which stays; `failed`.
        detail: What differs, or what the server said.
    """

    slug: str
    outcome: Literal["created", "there", "differs", "failed"]
    detail: str = ""


def create_meters(
    sink: OpenMeterSink, meters: Iterable[MeterDefinition], *, limit: float = NETWORK_LIMIT
) -> Iterator[Creation]:
    """Create the meters that a server has not, one after the other.

    Args:
        sink: Where it is, which of its APIs to use, and its key.
        meters: In the shape of what is sent to it.
        limit: Seconds for each request.

    Raises:
        MeteringError: If the server does not say which meters it has; none is created then.
    """
    path, parameters = METER_LISTS[sink.api]
    try:
        with Asker(limit=limit, token=sink.token) as asker:
            reply = asker.ask("GET", sink.base + path, parameters=parameters)
            there = _listed(sink, reply)
            for meter in meters:
                if meter.slug in there:
                    yield _compared(meter, there[meter.slug])
                else:
                    yield _created(asker, sink, meter)
    except UnreachableError as error:
        raise MeteringError(f"{sink.name}: {error.found}; {error.advice}") from error


def _listed(sink: OpenMeterSink, reply: Reply) -> dict[str, Mapping[str, Any]]:
    document = reply.document
    meters = read_meters(document)
    if reply.status != 200 or meters is None:
        raise MeteringError(
            f"{sink.name}: the server does not list its meters ({_said(sink, reply)}), so none is "
            "created; `llm-metering doctor` looks further"
        )
    listed = document["data"] if isinstance(document, dict) else document
    return dict(zip((meter.slug for meter in meters), listed, strict=True))


def _created(asker: Asker, sink: OpenMeterSink, meter: MeterDefinition) -> Creation:
    try:
        reply = asker.ask(
            "POST",
            sink.base + METER_LISTS[sink.api][0],
            body=json.dumps(create_body(meter, sink.api)).encode(),
            content_type="application/json",
        )
    except UnreachableError as error:
        detail = f"{error.found}; whether it is there, the same command says when it is run again"
        return Creation(slug=meter.slug, outcome="failed", detail=detail)
    if 200 <= reply.status < 300:
        return Creation(slug=meter.slug, outcome="created")
    if reply.status == _CONFLICT:
        # The list that was asked for holds a page of them.
        detail = "the server has one of that name and did not list it, so nobody compared it"
        return Creation(slug=meter.slug, outcome="failed", detail=detail)
    return Creation(slug=meter.slug, outcome="failed", detail=_said(sink, reply))


def _compared(meter: MeterDefinition, listed: Mapping[str, Any]) -> Creation:
    has = ServerMeter.read(listed)
    differences = [
        f"{what} is {theirs or 'none'}"
        for what, theirs, ours in (
            ("event type", has.event_type, meter.event_type),
            ("aggregation", has.aggregation, meter.aggregation),
            ("property", has.value_property, meter.value_property or ""),
        )
        if _place(theirs) != _place(ours)
    ]
    keys = listed.get("groupBy") or listed.get("dimensions") or {}
    wanted = create_body(meter)["groupBy"]
    lacking = [key for key in wanted if _place(keys.get(key)) != _place(wanted[key])]
    if lacking:
        differences.append(f"without the keys {', '.join(lacking)}")
    if differences:
        return Creation(slug=meter.slug, outcome="differs", detail="; ".join(differences))
    return Creation(slug=meter.slug, outcome="there")


def _place(path: object) -> object:
    try:
        return parse_path(path) if isinstance(path, str) else path
    except MeterError:
        return path


def _said(sink: OpenMeterSink, reply: Reply) -> str:
    document = reply.document
    detail = document.get("detail") if isinstance(document, dict) else None
    said = f"{reply.status} {detail}" if isinstance(detail, str) else str(reply.status)
    return shorten(said, [sink.token])
