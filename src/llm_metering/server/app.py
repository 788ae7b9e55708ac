"""`create_app`: the server as an ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from ..access import ApiKeys, AuditLog, PortalTokens
from ..errors import ConfigurationError
from ..ledger import KnownEvents
from ..meter import Meter
from .desk import Desk
from .gate import Gate, note
from .intake import Intake
from .measures import Measures
from .options import ServerOptions
from .problems import Refusal, problem
from .routes import events, health
from .sources import Sources

__all__ = ["create_app"]

logger = logging.getLogger("llm_metering")

CLOSE_TIMEOUT: Final = 10.0
"""Seconds at the end in which sinks are sent what they are owed; the rest waits on disk."""

CATCH_UP_EVERY: Final = 30.0

_DESCRIPTION: Final = (
    "Takes in usage as CloudEvents, keeps it in a ledger, and forwards it. Each request shows an API key: "
    "`Authorization: Bearer lmk_…`."
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
        audit=AuditLog(settings.home),
        measures=Measures(meter.statistics),
        options=options,
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
    app.include_router(events.router)
    app.include_router(health.router)
    app.add_middleware(
        Gate,
        keys=desk.keys,
        tokens=desk.tokens,
        audit=desk.audit,
        measures=desk.measures,
        options=options,
    )
    app.add_exception_handler(Refusal, _refuse)
    app.add_exception_handler(HTTPException, _refuse_path)
    app.add_exception_handler(RequestValidationError, _refuse_fields)
    return app


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
        desk.keys.close()
        desk.tokens.close()


async def _catch_up(sources: Sources) -> None:
    while True:
        await asyncio.sleep(CATCH_UP_EVERY)
        try:
            await asyncio.to_thread(sources.catch_up)
        except Exception as error:
            logger.error("what was left could not be gone on with: %s", error)  # noqa: TRY400


def _instance(request: Request) -> str | None:
    id = request.scope.get("state", {}).get("request_id")
    return None if id is None else f"urn:request:{id}"


async def _refuse(request: Request, refusal: Any) -> Response:
    desk: Desk = request.app.state.desk
    await asyncio.to_thread(note, desk.audit, refusal, request.state.caller, request.scope)
    response: Response = refusal.response(instance=_instance(request))
    return response


async def _refuse_path(request: Request, error: Any) -> Response:
    headers = dict(error.headers or {})
    return problem(error.status_code, headers=headers, instance=_instance(request))


async def _refuse_fields(request: Request, error: Any) -> Response:
    # Where, and what is wanted; never what was sent.
    places = [
        {"field": ".".join(map(str, each["loc"])), "reason": each["msg"]}
        for each in error.errors()[:20]
    ]
    return problem(
        400, "the request is not as it should be", instance=_instance(request), invalid=places
    )
