"""`/login` and `/logout`: an operator shows a key once, and the browser has a session."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse

from ...access import Session
from ...access.sessions import LIFE
from ...errors import ApiKeyError
from ..callers import Caller
from ..cookies import clear_session_cookie, session_of, set_session_cookie
from ..desk import Asker, Desk, TheDesk
from ..gate import note
from ..problems import Refusal
from .forms import fields_of, local_path
from .inside import InsidePages

__all__ = ["router"]

router = APIRouter(include_in_schema=False)


@router.get("/login")
async def login_page(request: Request, pages: InsidePages) -> Response:
    """Asks for a key."""
    content = {"title": "Sign in", "next": local_path(request.query_params.get("next", "/"))}
    return await pages.page(request, "login", content)


@router.post("/login")
async def login(request: Request, desk: TheDesk, pages: InsidePages, caller: Asker) -> Response:
    """Begins a session for who has a key that may read what is of everybody."""
    fields = await fields_of(request)
    onwards = local_path(fields.get("next", "/"))
    try:
        session, text = await run_in_threadpool(_begin, desk, fields.get("key", "").strip())
    except Refusal as refusal:
        await run_in_threadpool(note, desk.audit, refusal, caller, request.scope)
        content = {"title": "Sign in", "next": onwards, "problem": refusal.detail}
        return await pages.page(request, "login", content, status=refusal.status)
    who = Caller(key=await run_in_threadpool(desk.keys.find, session.key), client=caller.client)
    await desk.noted("session.begin", who)
    response = RedirectResponse(onwards, status_code=303)
    set_session_cookie(request, response, text, LIFE)
    return response


@router.post("/logout")
async def logout(request: Request, desk: TheDesk, caller: Asker) -> Response:
    """Ends the session."""
    text = session_of(request.url.path, request.headers)
    if text is not None:
        await run_in_threadpool(desk.sessions.end, text)
        await desk.noted("session.end", caller)
    response = RedirectResponse("/login", status_code=303)
    clear_session_cookie(request, response)
    return response


def _begin(desk: Desk, text: str) -> tuple[Session, str]:
    try:
        key = desk.keys.recognise(text)
    except ApiKeyError as error:
        reason = f"key {error.reason}" + (f" {error.id}" if error.id else "")
        raise Refusal(401, "This key is not accepted.", reason=reason) from None
    if not key.may("read"):
        raise Refusal(403, "This key may not read.", reason="wrong scope")
    if key.subjects is not None:
        raise Refusal(
            403,
            "This key is for some subjects alone, and these pages show what is of everybody.",
            reason="subject",
        )
    return desk.sessions.begin(key.id)
