"""`/portal`: what a customer sees: their own usage, what it costs them, and what is left."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse

from ...access import PortalToken
from ...bills import Bill
from ...bills.pages import details_of
from ...bills.plan_files import read_plans
from ...errors import BillError, PlanError, PortalTokenError
from ...meter import Meter
from ...meters import time_zone_of
from ..cookies import clear_portal_cookie, set_portal_cookie
from ..desk import Asker, Desk, TheDesk
from ..gate import note
from ..parameters import check_parameters
from ..problems import Refusal
from ..routes.portal import shows
from ..stored_meters import StoredMeter
from .burning import Shown, balances_of, burn_downs, picture_of_balance
from .charts import Picture
from .choices import choices_of
from .costs import Month, month_of
from .forms import fields_of
from .inside import InsidePages
from .pages import HEADERS, Content, Pages
from .panel import csv_of, named_meter, span_of, usage_panel
from .shares import MEANINGS
from .views import Defaults, View, read_view
from .words import Words

__all__ = ["router"]

router = APIRouter(prefix="/portal", include_in_schema=False)

_MOST_CHARTS: Final = 4
_NOT_HERE: Final = 501
_MY_FAULT: Final = 500
_STYLE: Final = re.compile(r"<style>(.*?)</style>", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Customer:
    """A customer who looks.

    Attributes:
        token: The token that it has shown.
        meters: The meters that this shows.
        time_zone: That of its plan.
    """

    token: PortalToken
    meters: tuple[StoredMeter, ...]
    time_zone: str

    @property
    def sees_all(self) -> bool:
        """Whether it sees its bill and its balance, and not some meters alone."""
        return self.token.meters is None

    def defaults(self) -> Defaults:
        slugs = sorted(each.slug for each in self.meters)
        usual = "tokens_total"
        return Defaults(
            meter=usual if usual in slugs or not slugs else slugs[0],
            period="month",
            time_zone=self.time_zone,
            of_subjects=(self.token.subject,),
        )


async def _customer(desk: TheDesk, caller: Asker) -> _Customer:
    token = caller.needs_token()
    meters = await run_in_threadpool(desk.meters.all)
    return _Customer(
        token=token,
        meters=tuple(each for each in meters if shows(token, each)),
        time_zone=await run_in_threadpool(_zone_of, desk, token.subject),
    )


TheCustomer = Annotated[_Customer, Depends(_customer)]


@router.get("")
async def portal(
    request: Request, desk: TheDesk, pages: InsidePages, customer: TheCustomer
) -> Response:
    """The customer's page. Takes a portal token."""
    now, words = desk.now(), pages.words(request)
    defaults = customer.defaults()
    problem = None
    try:
        view = read_view(request.query_params.multi_items(), defaults, now)
        meter = named_meter(customer.meters, view.meter)
    except Refusal as refusal:
        problem = refusal
        view = read_view((), defaults, now)
        meter = named_meter(customer.meters, view.meter)
    month = month_of(None, _today(desk, customer))
    known: dict[str, Any] = {
        "title": "Usage",
        "now": now,
        "view": view,
        "span": span_of(view, words),
        "choices": choices_of(view, customer.meters, has_subjects=False),
        "month": month,
        "meanings": MEANINGS,
        "details_of": details_of,
        "sees_all": customer.sees_all,
    }

    async def work() -> Content:
        wrong = problem
        found: dict[str, Any] = {}
        if wrong is None:
            try:
                found.update(
                    await usage_panel(
                        desk,
                        pages,
                        words,
                        view,
                        meter,
                        tops=("model",),
                        shares=customer.sees_all,
                    )
                )
            except Refusal as refusal:
                if refusal.status >= _MY_FAULT:
                    raise
                wrong = refusal
        beside = await _beside(desk, pages, words, customer, month) if customer.sees_all else {}
        return {**found, **beside, "problem": None if wrong is None else wrong.detail}

    response = await pages.answer(request, "portal", known, work)
    if problem is not None:
        response.status_code = problem.status
    return response


@router.get("/usage.csv")
async def usage_csv(request: Request, desk: TheDesk, customer: TheCustomer) -> Response:
    """What the page shows, as CSV. Takes a portal token."""
    view: View = read_view(request.query_params.multi_items(), customer.defaults(), desk.now())
    return await csv_of(desk, view, named_meter(customer.meters, view.meter))


@router.get("/counting")
async def counting(request: Request, pages: InsidePages, customer: TheCustomer) -> Response:
    """What a token is, and how estimates arise. Takes a portal token."""
    content = {"title": "How it is counted", "meanings": MEANINGS, "sees_all": customer.sees_all}
    return await pages.page(request, "counting", content)


@router.get("/bill")
async def bill(request: Request, desk: TheDesk, customer: TheCustomer) -> Response:
    """The bill of a month, to be printed. Takes a portal token."""
    text = (await _asked_bill(request, desk, customer)).to_html()
    # Its style stands in it, since it is a file that is sent around elsewhere.
    [style] = _STYLE.findall(text)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = HEADERS["Content-Security-Policy"].replace(
        "style-src 'self'", f"style-src 'sha256-{digest}'"
    )
    return HTMLResponse(text, headers={**HEADERS, "Content-Security-Policy": policy})


@router.get("/bill.csv")
async def bill_csv(request: Request, desk: TheDesk, customer: TheCustomer) -> Response:
    """The same as CSV. Takes a portal token."""
    made = await _asked_bill(request, desk, customer)
    headers = {"Content-Disposition": f'attachment; filename="bill-{made.period.start:%Y-%m}.csv"'}
    return Response(made.to_csv(), media_type="text/csv; charset=utf-8", headers=headers)


@router.get("/link")
async def link_page(request: Request, pages: InsidePages) -> Response:
    """Asks whoever has a link to open it: what looks links up before people do would use it up."""
    content = {"title": "Your usage", "code": request.query_params.get("code", "")[:256]}
    return await pages.page(request, "link", content)


@router.post("/link")
async def open_link(request: Request, desk: TheDesk, pages: InsidePages, caller: Asker) -> Response:
    """Exchanges the code of a link for a cookie."""
    code = (await fields_of(request)).get("code", "")
    try:
        token, text = await run_in_threadpool(desk.tokens.exchange, code)
    except PortalTokenError as error:
        refusal = Refusal(401, "the link is no longer valid", reason=f"code {error.reason}")
        await run_in_threadpool(note, desk.audit, refusal, caller, request.scope)
        content = {"title": "Your usage", "code": "", "problem": refusal.detail}
        return await pages.page(request, "link", content, status=401)
    response = RedirectResponse("/portal", status_code=303)
    set_portal_cookie(request, response, text, token.expires_at - desk.now())
    return response


@router.post("/leave")
async def leave(request: Request, caller: Asker) -> Response:
    """Has the browser forget the token. Takes a portal token."""
    caller.needs_token()
    response = RedirectResponse("/portal/link", status_code=303)
    clear_portal_cookie(request, response)
    return response


def _zone_of(desk: Desk, subject: str) -> str:
    settings = desk.meter.settings
    if settings.plans is None:
        return "UTC"
    try:
        return read_plans(settings.plans, settings.meters).time_zone_of(subject)
    except (BillError, PlanError):
        # It is on no plan; or the operator is told, where bills are made, what is wrong with them.
        return "UTC"


def _today(desk: Desk, customer: _Customer) -> date:
    return desk.now().astimezone(time_zone_of(customer.time_zone)).date()


async def _beside(
    desk: Desk, pages: Pages, words: Words, customer: _Customer, month: Month
) -> Content:
    """What it costs the customer, and what is left."""
    subject = customer.token.subject
    made, bill_problem = await _bill_or_why_not(desk, subject, month)
    shown: list[tuple[Shown, Picture | None]] = []
    balance_problem = None
    try:
        found = await burn_downs(desk, await balances_of(desk, subject), words)
    except Refusal as refusal:
        if refusal.status != _NOT_HERE:
            balance_problem = "What is left cannot be shown now."
    else:
        for place, each in enumerate(found):
            drawn = place < _MOST_CHARTS
            picture = await picture_of_balance(each, pages.drawing, words) if drawn else None
            shown.append((each, picture))
    return {
        "bill": made,
        "bill_problem": bill_problem,
        "balances": shown,
        "balance_problem": balance_problem,
    }


async def _bill_or_why_not(
    desk: Desk, subject: str, month: Month
) -> tuple[Bill | None, str | None]:
    """The bill; or why there is none, as far as that is the customer's business."""
    try:
        return await _bill(desk, subject, month), None
    except Refusal as refusal:
        if refusal.status in (400, _NOT_HERE):
            return None, None
        return None, "What it costs cannot be shown now."


async def _bill(desk: Desk, subject: str, month: Month) -> Bill:
    def made(meter: Meter) -> Bill:
        return meter.bill(subject, month.text, allow_incomplete=True)

    return await desk.allowance.ask(made)


async def _asked_bill(request: Request, desk: Desk, customer: _Customer) -> Bill:
    if not customer.sees_all:
        raise Refusal(403, "this link does not show bills", reason="meter")
    check_parameters(request, ["month"])
    month = month_of(request.query_params.get("month"), _today(desk, customer))
    try:
        return await _bill(desk, customer.token.subject, month)
    except Refusal as refusal:
        if refusal.status in (400, _NOT_HERE):
            # Why there is none is written for the operator.
            raise Refusal(404, "there is no bill of this month") from None
        raise
