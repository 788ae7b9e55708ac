"""Balances on a page: how far each is used up, how it came to that, and when it will be gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from ...errors import LedgerError, QueryError
from ...ledger import Ledger
from ...limits import Balance, BurnDown, Feature, burn_down, burn_down_query
from ...meter import Meter
from ..desk import Desk
from ..problems import Refusal
from .charts import Picture, picture_of_spec
from .drawing import Drawing
from .words import Words

__all__ = ["Shown", "balances_of", "burn_downs", "outlook", "picture_of_balance"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A balance on a page.

    Attributes:
        balance: What is left.
        used_part: How much of what there was is used; `None` if there was nothing.
        length: The same as a bar of 100.
        down: How it came to that; `None` if that cannot be told.
        outlook: When it will be gone, in words.
        level: How bad that is.
    """

    balance: Balance
    used_part: float | None
    length: float
    down: BurnDown | None
    outlook: str
    level: str


async def balances_of(desk: Desk, subject: str | None) -> list[Balance]:
    """What is left, of everybody or of a subject.

    Raises:
        Refusal: If limits are off (501), or the store cannot be used now (503).
    """

    def read(meter: Meter) -> list[Balance]:
        return meter.limits.balances(subject)

    return await desk.allowance.ask(read)


async def burn_downs(desk: Desk, balances: Sequence[Balance], words: Words) -> list[Shown]:
    """How balances came to what they are, as far as the ledger can tell.

    Raises:
        Refusal: If the ledger cannot be asked now.
    """
    if not balances:
        return []

    def features_of(meter: Meter) -> dict[str, Feature]:
        return dict(meter.limits.features)

    features = await desk.allowance.ask(features_of)

    def followed(ledger: Ledger) -> list[BurnDown | None]:
        queries = [burn_down_query(each, features[each.feature]) for each in balances]
        try:
            reports = desk.reading.usages(ledger, queries)
        except (QueryError, LedgerError):
            return [None] * len(balances)
        return [
            burn_down(each, report.rows) for each, report in zip(balances, reports, strict=True)
        ]

    try:
        found = await desk.reading.ask(followed)
    except Refusal as refusal:
        if refusal.status != 501:
            raise
        found = [None] * len(balances)
    return [_shown(each, down, words) for each, down in zip(balances, found, strict=True)]


def used_part(balance: Balance) -> float | None:
    """How much of what there was is used."""
    return float(balance.used) / float(balance.granted) if balance.granted else None


def outlook(balance: Balance, down: BurnDown | None, words: Words) -> tuple[str, str]:
    """When a balance will be gone, in words; and how bad that is: `good`, `notice` or `bad`."""
    if balance.available <= 0:
        if balance.resets_at is not None:
            return (
                f"used up; there is more in {words.span(balance.resets_at - balance.as_of)}",
                "bad",
            )
        return "used up", "bad"
    if down is None or down.rate is None:
        return "too new to tell", "good"
    if down.exhausted_at is not None:
        left = down.exhausted_at - balance.as_of
        level = "notice" if left.days < 7 else "good"
        return f"at this rate used up in {words.span(left)}", level
    if not down.rate:
        return "nothing was used of late", "good"
    return "at this rate enough until it renews" if balance.resets_at else "enough", "good"


async def picture_of_balance(shown: Shown, drawing: Drawing, words: Words) -> Picture | None:
    """The chart of a balance."""
    if shown.down is None:
        return None
    down, unit = shown.down, shown.balance.unit
    spec = await run_in_threadpool(lambda: down.plot(labels=words.tick_labels).to_dict())
    title = f"{words.text(shown.balance.feature)}: {unit} left"
    return await picture_of_spec(spec, title, drawing, words)


def _shown(balance: Balance, down: BurnDown | None, words: Words) -> Shown:
    text, level = outlook(balance, down, words)
    part = used_part(balance)
    return Shown(
        balance=balance,
        used_part=part,
        length=round(100 * min(max(part or 0.0, 0.0), 1.0), 2),
        down=down,
        outlook=text,
        level=level,
    )
