"""`/customers`: links by which customers see their own usage."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse

from ...access.portal_tokens import CODE_LIFE
from ...errors import SubjectError
from ..callers import Caller
from ..cookies import is_local
from ..desk import Admin, Desk, TheDesk
from ..paths import link_path
from ..problems import Refusal
from .forms import fields_of
from .inside import InsidePages
from .pages import Content

__all__ = ["LIVES", "router"]

router = APIRouter(include_in_schema=False)

LIVES: Final = {
    "hour": ("an hour", timedelta(hours=1)),
    "day": ("a day", timedelta(days=1)),
    "week": ("a week", timedelta(days=7)),
    "quarter": ("90 days", timedelta(days=90)),
}
_MOST_LISTED: Final = 50


@router.get("/customers")
async def customers(
    request: Request, desk: TheDesk, pages: InsidePages, _caller: Admin
) -> Response:
    """Makes links, and lists those that hold. Needs `admin`."""
    subject = request.query_params.get("subject", "")[:1024]
    return await pages.page(request, "customers", await _content(desk, subject=subject))


@router.post("/customers/link")
async def link(request: Request, desk: TheDesk, pages: InsidePages, caller: Admin) -> Response:
    """Makes a link for a subject, and shows it this once. Needs `admin`."""
    fields = await fields_of(request)
    subject, life = fields.get("subject", "").strip(), fields.get("life", "hour")
    try:
        code = await _code(desk, caller, subject, life)
    except Refusal as refusal:
        content = {**await _content(desk, subject=subject), "problem": refusal.detail}
        return await pages.page(request, "customers", content, status=refusal.status)
    # As browsers will call us: over HTTPS unless it is this machine.
    scheme = "http" if is_local(request) else "https"
    made = f"{scheme}://{request.url.netloc}{link_path(code)}"
    content = {**await _content(desk, subject=subject), "link": made, "life": LIVES[life][0]}
    return await pages.page(request, "customers", content)


@router.post("/customers/revoke")
async def revoke(request: Request, desk: TheDesk, caller: Admin) -> Response:
    """Takes back what a link gave access to. Needs `admin`."""
    id = (await fields_of(request)).get("id", "")
    count = await run_in_threadpool(partial(desk.tokens.revoke, id=id))
    await desk.noted("token.revoke", caller, token=id, count=count)
    return RedirectResponse("/customers", status_code=303)


async def _code(desk: Desk, caller: Caller, subject: str, life: str) -> str:
    if life not in LIVES:
        raise Refusal(400, "choose for how long it holds")
    try:
        token, _ = await run_in_threadpool(
            partial(desk.tokens.create, subject, life=LIVES[life][1])
        )
    except SubjectError:
        raise Refusal(400, "This cannot be a subject.") from None
    await desk.noted("token.create", caller, token=token.id, subject=token.subject)
    code = await run_in_threadpool(desk.tokens.code_for, token.id)
    await desk.noted("token.code", caller, token=token.id)
    return code


async def _content(desk: Desk, *, subject: str) -> dict[str, Any]:
    now: datetime = desk.now()
    tokens = await run_in_threadpool(partial(desk.tokens.all, most=_MOST_LISTED))
    content: Content = {
        "title": "Customers",
        "is_inside": True,
        "now": now,
        "subject": subject,
        "lives": LIVES,
        "link": None,
        "code_life": CODE_LIFE,
        "tokens": [each for each in tokens if each.revoked_at is None and each.expires_at > now],
    }
    return dict(content)
