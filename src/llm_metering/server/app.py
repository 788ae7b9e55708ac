"""`create_app`: the server as an ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from ..access import ApiKeys, AuditLog, PortalTokens, Sessions
from ..errors import AccessStoreError, CatalogueError, ConfigurationError, MissingExtraError
from ..ledger import KnownEvents
from ..meter import Meter
from .allowance import Allowance
from .desk import Asker, Desk
from .gate import Gate, note
from .intake import Intake
from .known_subjects import KnownSubjects
from .measures import Measures
from .options import ServerOptions
from .problems import Refusal, Refusing, as_problem
from .reading import Reading
from .routes import (
    allowance,
    balances,
    bills,
    entitlements,
    events,
    health,
    meters,
    portal,
    portal_tokens,
    queries,
    subjects,
    tokens,
)
from .sources import Sources
from .stored_meters import StoredMeters

__all__ = ["create_app"]

logger = logging.getLogger("llm_metering")

CLOSE_TIMEOUT: Final = 10.0
"""Seconds at the end in which sinks are sent what they are owed; the rest waits on disk."""

CATCH_UP_EVERY: Final = 30.0

_ROUTES: Final = (
    *(events, meters, queries, subjects, allowance, balances, bills, entitlements),
    *(portal_tokens, portal, tokens, health),
)

_DESCRIPTION: Final = (
    "Takes in usage as CloudEvents, keeps it in a ledger, forwards it, and says what was used. Each request "
    "shows an API key: `Authorization: Bearer lmk_…`. Paths under `/api/v1/portal/` are for customers, who "
    "show a portal token instead, or the cookie that a link is exchanged for."
)


def create_app(
    meter: Meter, options: ServerOptions | None = None, *, closes_meter: bool = False
) -> FastAPI:
    """The server, over the home of a meter.

    It begins to ship with its lifespan, and closes the meters it has made at the end of it.

    Args:
        meter: Whose home, ledger and sinks; its sinks are URLs.
        options: How much is taken, and from whom.
        closes_meter: Whether it closes yours as well.

    Raises:
        ConfigurationError: If what is recorded by the meter would be in memory alone.
    """
    options = options or ServerOptions()
    settings = meter.settings
    if settings.durability == "memory":
        raise ConfigurationError(
            "durability", "a server says that it has recorded what is on disk; memory is none"
        )
    sources = Sources(meter, most=options.most_sources)
    known = KnownEvents(settings.home / "ledger.db") if settings.ledger else None
    desk = Desk(
        meter=meter,
        sources=sources,
        intake=Intake(sources, known),
        keys=ApiKeys(settings.home),
        tokens=PortalTokens(settings.home),
        sessions=Sessions(settings.home),
        audit=AuditLog(settings.home),
        measures=Measures(meter.statistics),
        options=options,
        meters=StoredMeters(settings.home, settings.meters),
        subjects=KnownSubjects(settings.home),
        reading=Reading(meter),
        allowance=Allowance(meter),
        one_thread=ThreadPoolExecutor(1, thread_name_prefix="llm-metering-intake"),
    )
    app = FastAPI(
        title="llm-metering",
        version=version("llm-metering"),
        description=_DESCRIPTION,
        lifespan=partial(_lifespan, closes_meter=closes_meter),
        # They load their scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.desk = desk
    app.state.refusing = as_problem
    for each in _ROUTES:
        app.include_router(each.router)
    app.state.close_dashboard = _add_dashboard(app, desk)
    app.add_middleware(
        Gate,
        keys=desk.keys,
        tokens=desk.tokens,
        audit=desk.audit,
        measures=desk.measures,
        sessions=desk.sessions,
        options=options,
        refusing=app.state.refusing,
    )
    app.add_exception_handler(Refusal, _refuse)
    app.add_exception_handler(HTTPException, _refuse_path)
    app.add_exception_handler(RequestValidationError, _refuse_fields)
    for error in (AccessStoreError, CatalogueError):
        app.add_exception_handler(error, _refuse_for_now)
    return app


def _add_dashboard(app: FastAPI, desk: Desk) -> Callable[[], None]:
    """The pages, if what they are made with is installed; what ends them."""
    try:
        from .dashboard import add_dashboard
    except ImportError as error:
        if error.name is not None and error.name.startswith("llm_metering"):
            raise
        missing = MissingExtraError(error.name or "jinja2", "dashboard")
        logger.info("there are no pages: %s", missing)

        @app.get("/", include_in_schema=False)
        async def no_pages(_caller: Asker) -> Response:
            raise Refusal(501, f"there are no pages here: {missing}")

        return lambda: None
    return add_dashboard(app, desk)


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI, *, closes_meter: bool) -> AsyncIterator[None]:
    desk: Desk = app.state.desk
    await asyncio.to_thread(desk.sources.begin)
    catching_up = asyncio.create_task(_catch_up(desk.sources))
    try:
        yield
    finally:
        catching_up.cancel()
        desk.one_thread.shutdown()
        await asyncio.to_thread(desk.sources.close, CLOSE_TIMEOUT)
        if closes_meter:
            await desk.meter.aclose(CLOSE_TIMEOUT)
        desk.intake.close()
        desk.reading.close()
        desk.allowance.close()
        desk.meters.close()
        desk.subjects.close()
        desk.keys.close()
        desk.tokens.close()
        desk.sessions.close()
        app.state.close_dashboard()


async def _catch_up(sources: Sources) -> None:
    while True:
        await asyncio.sleep(CATCH_UP_EVERY)
        try:
            await asyncio.to_thread(sources.catch_up)
        except Exception as error:
            logger.error("what was left could not be gone on with: %s", error)  # noqa: TRY400


def _refused(request: Request, refusal: Refusal) -> Response:
    id = request.scope.get("state", {}).get("request_id")
    instance = None if id is None else f"urn:request:{id}"
    refusing: Refusing = request.app.state.refusing
    return refusing(request.scope, refusal, instance)


async def _refuse(request: Request, refusal: Any) -> Response:
    desk: Desk = request.app.state.desk
    await asyncio.to_thread(note, desk.audit, refusal, request.state.caller, request.scope)
    return _refused(request, refusal)


async def _refuse_for_now(request: Request, error: Any) -> Response:
    logger.error("%s", error)
    return _refused(
        request,
        Refusal(
            503,
            "what the server keeps cannot be read or kept now",
            headers={"Retry-After": "5"},
        ),
    )


async def _refuse_path(request: Request, error: Any) -> Response:
    return _refused(request, Refusal(error.status_code, headers=dict(error.headers or {})))


async def _refuse_fields(request: Request, error: Any) -> Response:
    # Where, and what is wanted; never what was sent.
    places = [
        {"field": ".".join(map(str, each["loc"])), "reason": each["msg"]}
        for each in error.errors()[:20]
    ]
    return _refused(request, Refusal(400, "the request is not as it should be", invalid=places))
