"""What a chart of a report shows: groups, the largest of them, and where each bar begins and ends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from .labels import amount, plain, window_label
from .windows import time_zone_of

if TYPE_CHECKING:
    from .reports import UsageReport, UsageRow

__all__ = ["Groups", "bars", "groups_of", "intervals", "named_rows"]

_Key = tuple[str | None, ...]
_NONE: Final = "(none)"
_ALL: Final = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """The groups of a report, from the largest to the smallest.

    Attributes:
        titles: What the report tells apart, such as `subject` and `model`.
        names: What to call each group that is shown by itself.
        rest: How many are not.
        other: What all of those are called together; `None` where they cannot be put together.
    """

    titles: tuple[str, ...]
    names: Mapping[_Key, str]
    rest: int = 0
    other: str | None = None

    @property
    def shown(self) -> list[str]:
        """The names in a chart, the largest first and the others last."""
        return [*self.names.values(), *([self.other] if self.other else [])]


def groups_of(report: UsageReport, most: int) -> Groups:
    """The groups of a report, at most so many of them by name.

    Values that do not add up, such as means, give the others no value of their own: there the
    groups with the highest values are shown, and how many are not is known.
    """
    query = report.query
    adds_up = report.adds_up
    sizes: dict[_Key, Any] = {}
    for row in report.rows:
        key = _key(report, row)
        before = sizes.get(key)
        if before is None:
            sizes[key] = row.value
        else:
            sizes[key] = before + row.value if adds_up else max(before, row.value)
    ranked = sorted(sizes, key=lambda key: (-sizes[key], [each or "" for each in key]))
    names: dict[_Key, str] = {}
    taken: set[str] = set()
    for key in ranked[:most]:
        name = " / ".join(_NONE if each is None else plain(each) for each in key) or _ALL
        # A name may hold what stands between two, or be that of what has none.
        unique = next(each for each in _numbered(name) if each not in taken)
        taken.add(unique)
        names[key] = unique
    rest = len(ranked) - len(names)
    other = f"other ({rest:,} more)" if rest and adds_up else None
    titles = (*(("subject",) if query.by_subject else ()), *map(plain, query.keys))
    return Groups(titles=titles, names=names, rest=rest, other=other)


def intervals(report: UsageReport, groups: Groups) -> list[dict[str, Any]]:
    """A bar for each window and group: when it starts and ends, and from where to where it is stacked.

    Values that do not add up are not stacked: each stands for itself.
    """
    query = report.query
    zone = time_zone_of(query.time_zone)
    order = {name: place for place, name in enumerate(groups.shown)}
    windows: dict[tuple[datetime, datetime], dict[str, Any]] = defaultdict(dict)
    for row, name in named_rows(report, groups):
        window = windows[row.window_start, row.window_end]
        window[name] = row.value + window[name] if name in window else row.value
    made = []
    for (start, end), values in windows.items():
        label = "" if query.window is None else window_label(start, query.window, zone)
        above: Any = Decimal(0)
        below: Any = Decimal(0)
        for name in sorted(values, key=order.__getitem__):
            value = values[name]
            if not report.adds_up:
                low = high = _exact(value)
            elif value >= 0:
                low, above = above, above + _exact(value)
                high = above
            else:
                high, below = below, below + _exact(value)
                low = below
            made.append(
                {
                    "start": _milliseconds(start),
                    "end": _milliseconds(end),
                    "window": label,
                    "group": name,
                    "low": float(low),
                    "high": float(high),
                    "value": amount(value),
                }
            )
    return made


def bars(report: UsageReport, groups: Groups) -> list[dict[str, Any]]:
    """A bar for each group, where there are no windows."""
    values: dict[str, Any] = {}
    for row, name in named_rows(report, groups):
        values[name] = row.value + values[name] if name in values else row.value
    return [
        {"group": name, "high": float(values[name]), "value": amount(values[name])}
        for name in groups.shown
    ]


def named_rows(report: UsageReport, groups: Groups) -> Iterator[tuple[UsageRow, str]]:
    """The rows that are shown, each with what its group is called."""
    for row in report.rows:
        name = groups.names.get(_key(report, row), groups.other)
        if name is not None:
            yield row, name


def _key(report: UsageReport, row: UsageRow) -> _Key:
    subject = (row.subject,) if report.query.by_subject else ()
    return (*subject, *(row.group_by.get(key) for key in report.query.keys))


def _numbered(name: str) -> Iterable[str]:
    yield name
    number = 2
    while True:
        yield f"{name} ({number})"
        number += 1


def _exact(value: Any) -> Decimal:
    # Sums of floats would leave hairlines between bars.
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
