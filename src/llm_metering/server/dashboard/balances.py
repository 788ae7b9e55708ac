"""`/balances`: what subjects have left, and until when that will do."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from ..desk import ReaderOfAll, TheDesk
from ..parameters import check_parameters, whole_number_of
from ..problems import Refusal
from .burning import balances_of, burn_downs, picture_of_balance, used_part
from .inside import InsidePages
from .pages import Content

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

_PAGE: Final = 50
_MOST_PAGES: Final = 100_000
_NOT_HERE: Final = 501


@router.get("/balances")
async def balances(
    request: Request, desk: TheDesk, pages: InsidePages, _caller: ReaderOfAll
) -> Response:
    """Those that are used up most first; of a subject, with how they came to that. Needs `read`, of everybody."""
    check_parameters(request, ["subject", "page"])
    words = pages.words(request)
    subject = request.query_params.get("subject") or None
    page = whole_number_of(request, "page", default=1, most=_MOST_PAGES)
    known: dict[str, Any] = {
        "title": "Balances",
        "is_inside": True,
        "now": desk.now(),
        "subject": subject,
        "page": page,
    }

    async def work() -> Content:
        try:
            found = await balances_of(desk, subject)
        except Refusal as refusal:
            if refusal.status != _NOT_HERE:
                raise
            return {"is_off": True, "shown": [], "count": 0, "pictures": [], "pages": 1}
        ranked = sorted(
            found,
            key=lambda each: (
                -(used_part(each) or 0.0),
                each.available,
                each.subject,
                each.feature,
            ),
        )
        some = ranked[(page - 1) * _PAGE : page * _PAGE]
        shown = await burn_downs(desk, some, words)
        # Charts are of one subject: fifty would be a page that nobody reads.
        drawn = (
            [await picture_of_balance(each, pages.drawing, words) for each in shown]
            if subject is not None
            else [None] * len(shown)
        )
        return {
            "is_off": False,
            "shown": list(zip(shown, drawn, strict=True)),
            "count": len(found),
            "pages": max(-(-len(ranked) // _PAGE), 1),
        }

    return await pages.answer(request, "balances", known, work)
