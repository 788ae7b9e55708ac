"""Meters: which there are, and what people make of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from fastapi import APIRouter, Body, Request, Response
from pydantic import AwareDatetime, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from ...errors import MeterError
from ...meters import MeterDefinition
from ...meters.definitions import Aggregation
from ..desk import Admin, Desk, Reader, TheDesk
from ..documents import refusals
from ..parameters import check_parameters, parameter, whole_number_of
from ..problems import Refusal
from ..shapes import Answered, Given, Moment
from ..stored_meters import StoredMeter

__all__ = ["found_meter", "router"]

router = APIRouter(prefix="/api/v1/meters", tags=["Meters"])

_MOST_IN_PAGE: Final = 1000
_ORDERS: Final = ("key", "name", "aggregation", "createdAt", "updatedAt")
_BOOLEANS: Final = {"true": True, "false": False}

Description = Annotated[str, Field(max_length=1024)]
Name = Annotated[str, Field(min_length=1, max_length=256)]


class Meter(Answered):
    """A meter, as OpenMeter's API has it."""

    model_config = ConfigDict(title="Meter")

    id: str = Field(description="A ULID.")
    slug: str
    name: str
    description: str | None = None
    event_type: str
    aggregation: Aggregation
    value_property: str | None = None
    group_by: dict[str, str]
    event_from: Moment | None = None
    metadata: dict[str, str] | None = None
    created_at: Moment
    updated_at: Moment
    deleted_at: Moment | None = None


class MeterCreate(Given):
    """A meter to be."""

    model_config = ConfigDict(title="MeterCreate")

    slug: str = Field(min_length=1, max_length=64, pattern=r"^[a-z0-9]+(?:_[a-z0-9]+)*$")
    name: Name | None = None
    description: Description = ""
    event_type: str = Field(min_length=1)
    aggregation: Aggregation
    value_property: str | None = Field(
        default=None,
        min_length=1,
        description="JSONPath of one place in an event's data; COUNT has none.",
    )
    group_by: dict[str, str] = Field(default={}, description="JSONPath by key.")
    event_from: AwareDatetime | None = Field(
        default=None, description="The first moment that counts."
    )
    metadata: dict[str, str] | None = None


class MeterUpdate(Given):
    """What may be changed of a meter; it is all replaced."""

    model_config = ConfigDict(title="MeterUpdate")

    name: Name | None = None
    description: Description = ""
    group_by: dict[str, str] = Field(default={})
    metadata: dict[str, str] | None = None


@router.get(
    "",
    operation_id="listMeters",
    summary="All meters",
    response_model_exclude_none=True,
    responses=refusals(400, 401, 403, 429, 503),
    openapi_extra={
        "parameters": [
            parameter("page", {"type": "integer", "minimum": 1}, "Which page, from 1 on."),
            parameter(
                "pageSize",
                {"type": "integer", "minimum": 1, "maximum": _MOST_IN_PAGE},
                "Meters of a page; 100 if left out.",
            ),
            parameter("order", {"type": "string", "enum": ["ASC", "DESC"]}, "Which way."),
            parameter("orderBy", {"type": "string", "enum": list(_ORDERS)}, "By what."),
            parameter("includeDeleted", {"type": "boolean"}, "Those that were deleted, too."),
        ]
    },
)
async def list_meters(request: Request, desk: TheDesk, _caller: Reader) -> list[Meter]:
    """Those of the settings, and those that were made here. Needs `read`.

    `cost_total` and `credits_total` are not among them, since OpenMeter has no words for what they add up;
    they can be asked like the others.
    """
    asked = request.query_params
    check_parameters(request, ["page", "pageSize", "order", "orderBy", "includeDeleted"])
    number = whole_number_of(request, "page", default=1, most=10**8)
    size = whole_number_of(request, "pageSize", default=100, most=_MOST_IN_PAGE)
    order, by = asked.get("order", "ASC"), asked.get("orderBy", "key")
    if order not in ("ASC", "DESC") or by not in _ORDERS:
        raise Refusal(400, f"order is ASC or DESC, and orderBy one of {', '.join(_ORDERS)}")
    deleted = _BOOLEANS.get(asked.get("includeDeleted", "false"))
    if deleted is None:
        raise Refusal(400, "includeDeleted is true or false")
    listed = [
        _shown(each) for each in await _all(desk, deleted=deleted) if each.definition.book is None
    ]
    name = {"key": "slug", "createdAt": "created_at", "updatedAt": "updated_at"}.get(by, by)
    listed.sort(key=lambda each: (getattr(each, name), each.id), reverse=order == "DESC")
    return listed[(number - 1) * size : number * size]


@router.post(
    "",
    operation_id="createMeter",
    summary="Make a meter",
    status_code=201,
    response_model_exclude_none=True,
    responses=refusals(400, 401, 403, 409, 413, 429, 503),
)
async def create_meter(
    asked: Annotated[MeterCreate, Body()], desk: TheDesk, caller: Admin
) -> Meter:
    """It counts what was recorded before, too. Needs `admin`."""
    try:
        definition = MeterDefinition(
            slug=asked.slug,
            event_type=asked.event_type,
            aggregation=asked.aggregation,
            # As OpenMeter has it.
            value_property=None if asked.aggregation == "COUNT" else asked.value_property,
            group_by=asked.group_by,
            description=asked.description,
        )
    except MeterError as error:
        raise Refusal(400, str(error)) from None
    wanted = StoredMeter(
        id="",
        definition=definition,
        name=asked.name or asked.slug,
        metadata=asked.metadata,
        event_from=asked.event_from,
    )
    made = await run_in_threadpool(desk.meters.create, wanted)
    if made is None:
        raise Refusal(409, f"there is a meter {asked.slug}")
    await desk.noted("meter.create", caller, meter=made.slug)
    return _shown(made)


@router.get(
    "/{name}",
    operation_id="getMeter",
    summary="A meter",
    response_model_exclude_none=True,
    responses=refusals(400, 401, 403, 404, 429, 503),
)
async def get_meter(name: str, desk: TheDesk, _caller: Reader) -> Meter:
    """The meter of a slug or an id. Needs `read`."""
    meter = await found_meter(desk, name)
    if meter.definition.book is not None:
        raise Refusal(404, f"OpenMeter has no words for {meter.slug}; it can be asked all the same")
    return _shown(meter)


@router.put(
    "/{name}",
    operation_id="updateMeter",
    summary="Change a meter",
    response_model_exclude_none=True,
    responses=refusals(400, 401, 403, 404, 409, 413, 429, 503),
)
async def update_meter(
    name: str, asked: Annotated[MeterUpdate, Body()], desk: TheDesk, caller: Admin
) -> Meter:
    """Its name, description, keys and metadata are replaced. Needs `admin`."""
    meter = await _own_meter(desk, name)
    old = meter.definition
    try:
        definition = MeterDefinition(
            slug=old.slug,
            event_type=old.event_type,
            aggregation=old.aggregation,
            value_property=old.value_property,
            group_by=asked.group_by,
            description=asked.description,
        )
    except MeterError as error:
        raise Refusal(400, str(error)) from None
    changed = StoredMeter(
        id=meter.id,
        definition=definition,
        name=asked.name or meter.slug,
        metadata=asked.metadata,
        event_from=meter.event_from,
        created_at=meter.created_at,
    )
    stored = await run_in_threadpool(desk.meters.update, changed)
    if stored is None:
        raise _no_meter(name)
    await desk.noted("meter.update", caller, meter=stored.slug)
    return _shown(stored)


@router.delete(
    "/{name}",
    operation_id="deleteMeter",
    summary="Delete a meter",
    status_code=204,
    response_class=Response,
    responses=refusals(400, 401, 403, 404, 409, 429, 503),
)
async def delete_meter(name: str, desk: TheDesk, caller: Admin) -> Response:
    """What it counted stays recorded. Needs `admin`."""
    meter = await _own_meter(desk, name)
    if not await run_in_threadpool(desk.meters.delete, meter):
        raise _no_meter(name)
    await desk.noted("meter.delete", caller, meter=meter.slug)
    return Response(status_code=204)


async def found_meter(desk: Desk, name: str) -> StoredMeter:
    """The meter of a slug or an id.

    Raises:
        Refusal: If there is none (404), or nobody can tell now (503).
    """
    meter = await run_in_threadpool(desk.meters.find, name)
    if meter is None:
        raise _no_meter(name)
    return meter


async def _own_meter(desk: Desk, name: str) -> StoredMeter:
    meter = await found_meter(desk, name)
    if meter.is_configured:
        raise Refusal(409, f"the meter {meter.slug} is changed in the settings of the server")
    return meter


async def _all(desk: Desk, *, deleted: bool) -> list[StoredMeter]:
    return await run_in_threadpool(lambda: desk.meters.all(deleted=deleted))


def _no_meter(name: str) -> Refusal:
    return Refusal(404, f"there is no meter {name[:100]}")


def _shown(meter: StoredMeter) -> Meter:
    definition = meter.definition
    group_by: Mapping[str, str] = definition.to_dict()["groupBy"]
    return Meter(
        id=meter.id,
        slug=meter.slug,
        name=meter.name,
        description=definition.description or None,
        event_type=definition.event_type,
        aggregation=definition.aggregation,
        value_property=definition.value_property,
        group_by=dict(group_by),
        event_from=meter.event_from,
        metadata=None if meter.metadata is None else dict(meter.metadata),
        created_at=meter.created_at,
        updated_at=meter.updated_at,
        deleted_at=meter.deleted_at,
    )
