"""`/`: whether the meter is right, and what was used."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from ...ledger import EventQuery
from ..desk import Desk, ReaderOfAll, TheDesk
from ..problems import Refusal
from .choices import choices_of
from .health import Finding, findings, worst
from .inside import InsidePages, Statistics, TheStatistics
from .pages import Content
from .panel import csv_of, named_meter, span_of, usage_panel
from .shares import Shares
from .views import Defaults, read_view
from .words import Words

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

_DEFAULTS: Final = Defaults()


@router.get("/")
async def overview(
    request: Request,
    desk: TheDesk,
    pages: InsidePages,
    statistics: TheStatistics,
    _caller: ReaderOfAll,
) -> Response:
    """The first page. Needs `read`, of everybody."""
    now = desk.now()
    words = pages.words(request)
    meters = await run_in_threadpool(desk.meters.all)
    problem = None
    try:
        view = read_view(request.query_params.multi_items(), _DEFAULTS, now)
        meter = named_meter(meters, view.meter)
    except Refusal as refusal:
        problem = refusal
        view = read_view((), _DEFAULTS, now)
        meter = named_meter(meters, view.meter)
    known: dict[str, Any] = {
        "title": "Overview",
        "is_inside": True,
        "now": now,
        "view": view,
        "span": span_of(view, words),
    }

    async def work() -> Content:
        wrong = problem
        found: dict[str, Any] = {}
        if wrong is None:
            try:
                found.update(await usage_panel(desk, pages, words, view, meter))
            except Refusal as refusal:
                if refusal.status >= 500:
                    raise
                wrong = refusal
        state = await _state(desk, statistics, words, found)
        choices = choices_of(view, meters, subjects=found.get("known_subjects", ()))
        return {
            **found,
            **state,
            "choices": choices,
            "problem": None if wrong is None else wrong.detail,
        }

    response = await pages.answer(request, "overview", known, work)
    if problem is not None:
        response.status_code = problem.status
    return response


@router.get("/usage.csv")
async def usage_csv(request: Request, desk: TheDesk, _caller: ReaderOfAll) -> Response:
    """What the overview shows, as CSV. Needs `read`, of everybody."""
    view = read_view(request.query_params.multi_items(), _DEFAULTS, desk.now())
    meter = named_meter(await run_in_threadpool(desk.meters.all), view.meter)
    return await csv_of(desk, view, meter)


async def _state(
    desk: Desk, statistics: Statistics, words: Words, found: dict[str, Any]
) -> Content:
    told = await statistics.now()
    listed = findings(told, words)
    shares: Shares | None = found.get("shares")
    missing = (
        0 if shares is None else sum(each.calls for each in shares.parts if each.kind == "missing")
    )
    if missing:
        listed.append(
            Finding(
                level="notice",
                text=f"nobody knows the usage of {words.number(missing)} calls of this period",
                path="/?groupBy=provenance&meter=calls_total",
            )
        )
    has_events = not found.get("empty", True) or bool(
        await desk.reading.ask(lambda ledger: ledger.events(EventQuery(limit=1)))
    )
    return {
        "statistics": told,
        "pending": sum(sink["pending"] for sink in told["sinks"]),
        "dead": sum(sink["dead"] for sink in told["sinks"]),
        "findings": listed,
        "level": worst(listed),
        "has_events": has_events,
        "interrupted": found.get("interrupted"),
    }
