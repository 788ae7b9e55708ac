"""`/delivery`: what became of every event, sink by sink, and those that a sink has refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse

from ...settings import mask_url
from ...transport.operations import Letter, read_letters, retry_letters
from ...transport.spool import Spool
from ..desk import Admin, Desk, ReaderOfAll, TheDesk
from ..problems import Refusal
from .forms import fields_of
from .health import adds_up, findings, worst
from .inside import InsidePages, TheStatistics
from .pages import Content

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

_MOST_LETTERS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """A dead event as a page shows it."""

    key: str
    sink: str
    source: str
    id: str
    reason: str
    time: str
    attempts: int
    subject: str | None
    model: str | None


@router.get("/delivery")
async def delivery(
    request: Request,
    desk: TheDesk,
    pages: InsidePages,
    statistics: TheStatistics,
    _caller: ReaderOfAll,
) -> Response:
    """How each sink fares. Needs `read`, of everybody."""
    words = pages.words(request)
    retried = request.query_params.get("retried", "")
    known: dict[str, Any] = {
        "title": "Delivery",
        "is_inside": True,
        "now": desk.now(),
        "retried": int(retried)
        if retried.isascii() and retried.isdecimal() and len(retried) < 10
        else None,
    }

    async def work() -> Content:
        told = await statistics.now()
        listed = findings(told, words)
        letters: list[_Shown] = []
        more = unreadable = 0
        by_sink: Counter[tuple[str, str]] = Counter()
        if any(sink["dead"] for sink in told["sinks"]):
            found = await _on_disk(partial(read_letters, _spool(desk)))
            letters = [_shown(each) for each in found.letters[-_MOST_LETTERS:]]
            letters.reverse()
            more = len(found.letters) - len(letters)
            unreadable = found.unreadable
            by_sink = Counter((each.key, each.sink) for each in found.letters)
        return {
            "statistics": told,
            "sinks": [
                {**sink, "url": mask_url(sink["url"]), "adds_up": adds_up(sink)}
                for sink in told["sinks"]
            ],
            "findings": listed,
            "level": worst(listed),
            "counters": _counters(told),
            "letters": letters,
            "more": more,
            "unreadable": unreadable,
            "by_sink": sorted(by_sink.items()),
        }

    return await pages.answer(request, "delivery", known, work)


@router.post("/delivery/retry")
async def retry(
    request: Request, desk: TheDesk, statistics: TheStatistics, caller: Admin
) -> Response:
    """Puts dead events back: one, or all of a sink. Needs `admin`."""
    fields = await fields_of(request)
    key, id, source = fields.get("key", ""), fields.get("id"), fields.get("source")
    if not key:
        raise Refusal(400, "of which sink, is wanted")

    def chosen(letter: Letter) -> bool:
        return letter.key == key and (id is None or (letter.id, letter.source) == (id, source))

    done = await _on_disk(partial(retry_letters, _spool(desk), chosen))
    count = sum(done.events.values())
    await desk.noted("dead.retry", caller, sink=key, event=id, count=count)
    statistics.forget()
    return RedirectResponse(f"/delivery?retried={count}#dead", status_code=303)


def _spool(desk: Desk) -> Spool:
    return Spool(desk.meter.settings.home)


async def _on_disk(work: Any) -> Any:
    try:
        return await run_in_threadpool(work)
    except OSError as error:
        raise Refusal(
            503, "dead events cannot be read or put back now", headers={"Retry-After": "5"}
        ) from error


def _shown(letter: Letter) -> _Shown:
    about = letter.describe()
    return _Shown(
        key=letter.key,
        sink=letter.sink,
        source=letter.source,
        id=letter.id,
        reason=letter.reason,
        time=letter.time,
        attempts=letter.attempts,
        subject=about["subject"],
        model=about["model"],
    )


def _counters(told: Mapping[str, Any]) -> list[tuple[str, int]]:
    """What else is counted, as far as there is any of it."""
    found: list[tuple[str, int]] = []
    for name, value in told.items():
        if name in ("home", "sinks", "recorded", "open_calls"):
            continue
        title = name.replace("_", " ")
        if isinstance(value, Mapping):
            found += [
                (f"{title}: {str(key).replace('_', ' ')}", count) for key, count in value.items()
            ]
        elif isinstance(value, int):
            found.append((title, value))
    return [(title, count) for title, count in found if count]
