"""`Ranking`: the largest users of a period, and the period before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ...errors import QueryError
from ...events import UNATTRIBUTED
from ...meters import UsageQuery, UsageReport, rfc3339
from ..render import Number
from ..tally import CALLS, call_notes, key_notes, names_of, tally
from ..usage.asking import Question
from ..usage.tables import notes_on

__all__ = ["Place", "Ranking", "Sums", "Top"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One user in the ranking.

    Attributes:
        rank: From 1.
        name: Who it is; `None` if the events do not say.
        value: What was used.
        calls: How many calls that were; `None` if there were none.
        before: What was used in the period before; `None` if nothing.
    """

    rank: int
    name: str | None
    value: Number
    calls: Number | None
    before: Number | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What several of them come to.

    Attributes:
        value: What was used; `None` if values do not add up.
        calls: How many calls that were.
        before: What was used in the period before, by anybody who is not named; `None` as above.
    """

    value: Number | None
    calls: Number
    before: Number | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Top:
    """The answer: the largest, and what the rest comes to.

    Attributes:
        places: The largest; and, wherever they stand, calls that nobody pays for.
        others: How many others there are.
        total: All of them.
        rest: The others.
    """

    places: Sequence[Place]
    others: int
    total: Sums
    rest: Sums

    def cut(self, most: int) -> Top:
        """The same with so many places; what is cut off is among the others."""
        named, hidden = self.places[:most], self.places[most:]
        rest = self.rest
        for place in hidden:
            rest = Sums(
                value=None if rest.value is None else rest.value + place.value,
                calls=rest.calls + (place.calls or 0),
                before=None if rest.before is None else rest.before + (place.before or 0),
            )
        return replace(self, places=named, others=self.others + len(hidden), rest=rest)

    def share(self, value: Number | None) -> float | None:
        """Which part of the total that is."""
        return value / self.total.value if value is not None and self.total.value else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Who used the most of one meter in a period.

    Attributes:
        question: Which events to count.
        start: First moment of the period.
        end: First moment after it; it lasts until now where the question has no end.
        meter: The meter's slug.
        key: Who is ranked: subjects, or the values of another key.
        limit: How many to name.
    """

    question: Question
    start: datetime
    end: datetime
    meter: str
    key: str
    limit: int

    def __post_init__(self) -> None:
        several = len(self.question.subjects or ()) > 1 and self.key != "subject"
        if several and not self.adds_up:
            raise QueryError(
                f"the values of {self.meter} do not add up: choose one --subject, or none, to rank "
                f"by {self.key}"
            )

    @property
    def adds_up(self) -> bool:
        """Whether a sum of values means anything."""
        return self.question.meters[self.meter].adds_up

    @property
    def before(self) -> datetime | None:
        """When the period before starts, which is as long; `None` if there is none."""
        try:
            return self.start - (self.end - self.start) if self.start < self.end else None
        except OverflowError:
            return None

    def queries(self) -> list[UsageQuery]:
        """What to ask: the meter and the calls, the meter before, what the notes say."""
        question = replace(self.question, start=self.start)
        queries = [question.about(slug, (self.key,)) for slug in (self.meter, CALLS)]
        if self.before is not None:
            earlier = replace(self.question, start=self.before, end=self.start)
            queries.append(earlier.about(self.meter, (self.key,)))
        return queries + notes_on(question, [self.meter])

    def top(self, reports: Sequence[UsageReport]) -> Top:
        """The ranking, from the answers to `queries`."""
        values, calls = map(self.by_name, reports[:2])
        before = {} if self.before is None else self.by_name(reports[2])
        ranked = sorted(values, key=lambda name: (-values[name], name is None, name or ""))
        places = [
            Place(
                rank=rank,
                name=name,
                value=values[name],
                calls=calls.get(name),
                before=before.get(name),
            )
            for rank, name in enumerate(ranked, start=1)
            if rank <= self.limit or (self.key == "subject" and name == UNATTRIBUTED)
        ]
        named = {place.name for place in places}
        everything = _sums(values, calls, before, adds_up=self.adds_up)
        others = [_without(each, named) for each in (values, calls, before)]
        return Top(
            places=places,
            others=len(ranked) - len(places),
            total=everything,
            rest=_sums(*others, adds_up=self.adds_up),
        )

    def remarks(self, reports: Sequence[UsageReport]) -> list[str]:
        """Sentences to be read with the numbers, from the answers to `queries`."""
        lines = tally({self.meter: reports[0]}, (self.key,), windowed=False)
        notes = reports[2 if self.before is None else 3 :]
        meters = [self.question.meters[self.meter]]
        return [*key_notes(lines, (self.key,)), *call_notes(notes, meters)]

    def to_dict(self, top: Top) -> dict[str, Any]:
        """The ranking for programs."""
        return {
            "meter": self.meter,
            "by": self.key,
            "from": rfc3339(self.start),
            "to": rfc3339(self.end),
            "before": self.before and rfc3339(self.before),
            "total": _sums_json(top.total),
            "data": [
                {
                    "rank": each.rank,
                    "name": each.name,
                    "value": each.value,
                    "share": top.share(each.value),
                    "calls": each.calls,
                    "before": each.before,
                }
                for each in top.places
            ],
            "others": {
                "groups": top.others,
                "share": top.share(top.rest.value),
                **_sums_json(top.rest),
            },
        }

    def by_name(self, report: UsageReport) -> dict[str | None, Number]:
        """The values of one of the answers, whoever has them."""
        sums: dict[str | None, Number] = {}
        for row in report:
            (name,) = names_of(row, (self.key,))
            # Chosen subjects have rows of their own, whatever the ranking is by.
            sums[name] = sums.get(name, 0) + row.value
        return sums


def _sums(
    values: Mapping[str | None, Number],
    calls: Mapping[str | None, Number],
    before: Mapping[str | None, Number],
    *,
    adds_up: bool,
) -> Sums:
    return Sums(
        value=sum(values.values()) if adds_up else None,
        calls=sum(calls.values()),
        before=sum(before.values()) if adds_up else None,
    )


def _without(
    values: Mapping[str | None, Number], names: AbstractSet[str | None]
) -> dict[str | None, Number]:
    return {name: value for name, value in values.items() if name not in names}


def _sums_json(sums: Sums) -> dict[str, Any]:
    return {"value": sums.value, "calls": sums.calls, "before": sums.before}
