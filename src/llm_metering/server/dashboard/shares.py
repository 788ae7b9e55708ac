"""`Shares`: what part of usage was reported, and what part was counted, estimated or is not known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ...meters import UsageReport

__all__ = ["MEANINGS", "Part", "Shares", "shares_of"]

MEANINGS: Final[Mapping[str, str]] = {
    "reported": "all counts are the provider's final ones",
    "partial": "the provider reported some; the rest is unknown or was counted from the text",
    "estimated": "the provider reported none; they were counted from the text",
    "missing": "nobody knows; such calls have no tokens here, and may have cost some",
}
_OTHER: Final = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The calls of one provenance.

    Attributes:
        kind: The provenance.
        meaning: What that is.
        calls: How many.
        tokens: Their tokens.
        share: Which part of all calls they are; `None` if there are none.
        token_share: Which part of all tokens.
        from_percent: Where they begin in a bar of 100.
        percent: How long they are in it.
    """

    kind: str
    meaning: str
    calls: Any
    tokens: Any
    share: float | None
    token_share: float | None
    from_percent: float
    percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """All of them, those of the events' own first.

    Attributes:
        calls: How many calls there are.
        parts: By provenance.
    """

    calls: Any
    parts: tuple[Part, ...]


def shares_of(calls: UsageReport, tokens: UsageReport) -> Shares:
    """What part of calls and tokens is of which provenance, from reports by `provenance`."""
    by_kind = [_by_kind(report) for report in (calls, tokens)]
    counts, amounts = by_kind
    kinds = [*MEANINGS, *sorted({*counts, *amounts} - {*MEANINGS})]
    all_calls, all_tokens = sum(counts.values()), sum(amounts.values())
    parts = []
    begin = 0.0
    for kind in kinds:
        share = counts.get(kind, 0) / all_calls if all_calls else None
        percent = round(100 * (share or 0), 3)
        parts.append(
            Part(
                kind=kind,
                meaning=MEANINGS.get(kind, "the events do not say"),
                calls=counts.get(kind, 0),
                tokens=amounts.get(kind, 0),
                share=share,
                token_share=amounts.get(kind, 0) / all_tokens if all_tokens else None,
                from_percent=begin,
                percent=percent,
            )
        )
        begin = round(begin + percent, 3)
    return Shares(calls=all_calls, parts=tuple(parts))


def _by_kind(report: UsageReport) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for row in report.rows:
        kind = row.group_by["provenance"] or _OTHER
        found[kind] = found.get(kind, 0) + row.value
    return found
