"""`/events`: the latest events, with where their counts come from."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from ...ledger import EventQuery
from ..desk import ReaderOfAll, TheDesk
from ..parameters import check_parameters
from ..problems import Refusal
from .event_lines import line_of
from .inside import InsidePages
from .pages import Content
from .views import moment_in, zone_in

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

_PAGE: Final = 50
_NAMES: Final = ("subject", "id", "from", "to", "windowTimeZone")
_TICK: Final = timedelta(microseconds=1)


@router.get("/events")
async def events(
    request: Request, desk: TheDesk, pages: InsidePages, _caller: ReaderOfAll
) -> Response:
    """Fifty of them, the latest first. Needs `read`, of everybody."""
    chosen = {name: value for name, value in request.query_params.items() if value}
    query, zone, problem = EventQuery(limit=_PAGE + 1), "UTC", None
    try:
        check_parameters(request, _NAMES)
        zone, clocks = zone_in(chosen.get("windowTimeZone", "UTC"))
        query = replace(
            query,
            start=moment_in("from", chosen.get("from"), clocks),
            end=moment_in("to", chosen.get("to"), clocks),
            id=chosen.get("id"),
            subject=chosen.get("subject"),
        )
    except Refusal as refusal:
        problem = refusal
    known: dict[str, Any] = {
        "title": "Events",
        "is_inside": True,
        "chosen": chosen,
        "zone": zone,
        "now": desk.now(),
        "problem": None if problem is None else problem.detail,
    }

    async def work() -> Content:
        if problem is not None:
            return {"lines": [], "older": None}
        found = await desk.reading.ask(lambda ledger: ledger.events(query))
        shown = found[:_PAGE]
        older = None
        if len(found) > _PAGE:
            # Of one moment there may be several: those that are shown twice are better than one that is not.
            until = (shown[-1].time + _TICK).isoformat()
            older = {**{name: chosen[name] for name in _NAMES if name in chosen}, "to": until}
        return {"lines": [line_of(each) for each in shown], "older": older}

    response = await pages.answer(request, "events", known, work)
    if problem is not None:
        response.status_code = problem.status
    return response
