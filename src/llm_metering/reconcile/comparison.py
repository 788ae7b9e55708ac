"""What an event's rows in a server's list say of it: pure, without clock, files or network.

Source: `openmeter/meterevent/adapter/event.go` and `openmeter/meter/parse.go` of
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c. An event is
listed with everything that is wrong with it for any meter of its type. Much of that is no fault of
the event: a subject that is nobody's customer, a type that no meter looks at, a property that some
meter sums and that a call without such tokens does not have. One text quotes the value itself.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from .expected import WireEvent, as_server_writes, is_same_data, number_of
from .findings import Finding, Kind, Ledgered, Off
from .pages import Listed

__all__ = ["Comparison", "SumMeter"]

_NO_CUSTOMER: Final = "no customer found for event subject"
_NO_METER: Final = "no meter found for event type"
_INVALID: Final = "invalid event: "
_ABSENT: Final = re.compile(r'missing value property: "\$\.(.+)"')
_MOST_LETTERS: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class SumMeter:
    """A meter that sums a property of what we send.

    Attributes:
        slug: Its name.
        type: The events it looks at.
        key: The property, in `data`.
        start: The first second that counts, since 1970.
    """

    slug: str
    type: str
    key: str
    start: int = 0

    def value(self, event: WireEvent | Listed) -> Decimal | None:
        """What it adds for an event."""
        if event.type != self.type or event.time < self.start or not isinstance(event.data, dict):
            return None
        return number_of(event.data.get(self.key))


class Comparison:
    """Compares events of one source, one at a time; counts what there is nothing to say of.

    Args:
        source: The CloudEvents source of the events.
        tokens: The meter that a bill is the sum of; its slug is empty.
        meters: Others whose sums are to be explained.
        start: The first second of the span, since 1970.
        end: The first second behind it.

    Attributes:
        no_customer: Of those that there is nothing to say of, the events whose subject the server knows no customer for.
        no_meter: Of those, the events of a type that no meter looks at.
        no_value: Of those, the events that a meter finds nothing in, as they have nothing for it.
    """

    def __init__(
        self,
        source: str,
        tokens: SumMeter,
        *,
        meters: Sequence[SumMeter] = (),
        start: int,
        end: int,
    ) -> None:
        self._source = as_server_writes(source)
        self._tokens = tokens
        self._meters = (tokens, *meters)
        self._start = start
        self._end = end
        self.no_customer = 0
        self.no_meter = 0
        self.no_value = 0

    def ours(self, rows: Iterable[Listed]) -> list[Listed]:
        """Those of the rows that are of our source."""
        return [row for row in rows if as_server_writes(row.source) == self._source]

    def describe(self, event: WireEvent) -> Ledgered:
        """An event, as a finding has it."""
        return Ledgered(
            record=event.record,
            id=event.id,
            type=event.type,
            subject=event.subject,
            time=event.time,
            tokens=self._tokens.value(event),
        )

    def off(self, events: Iterable[WireEvent], rows: Iterable[Listed]) -> Off:
        """What rows add to the sums of the span, less what events should."""
        sums: defaultdict[str, defaultdict[str, Decimal]] = defaultdict(
            lambda: defaultdict(Decimal)
        )
        events, rows = list(events), list(rows)
        for meter in self._meters:
            for event in events:
                sums[meter.slug][event.subject] -= meter.value(event) or 0
            for row in rows:
                if self._start <= row.time < self._end:
                    sums[meter.slug][row.subject] += meter.value(row) or 0
        return {
            slug: known
            for slug, by_subject in sums.items()
            if (known := {subject: amount for subject, amount in by_subject.items() if amount})
        }

    def judge(self, event: WireEvent, listed: Iterable[Listed]) -> Finding | None:
        """What is to be said of an event that is listed.

        Args:
            event: The event, as it was sent.
            listed: What is listed under its id; rows of other sources are passed over.

        Returns:
            The finding, of kind `missing` if nothing of ours is listed; `None` if all is well.
        """
        rows = self.ours(listed)
        if not rows:
            return self.found("missing", event, rows)
        differs = _differences(event, rows)
        faults = dict(fault for row in rows for fault in self._faults(event, row))
        if len(rows) > 1:
            return self.found("doubled", event, rows, differs=differs)
        if faults:
            unknown = all(faults.values()) and not differs
            found = self.found("invalid", event, rows, differs=differs, reason="; ".join(faults))
            return replace(found, is_harmless=unknown)
        if differs:
            return self.found("different", event, rows, differs=differs)
        self._count_remarks(event, rows[0])
        return None

    def found(
        self,
        kind: Kind,
        event: WireEvent,
        rows: Sequence[Listed],
        *,
        reason: str | None = None,
        differs: tuple[str, ...] = (),
    ) -> Finding:
        """A finding about an event and what is listed of it."""
        return Finding(
            kind=kind,
            event=self.describe(event),
            listed=len(rows),
            off=self.off([event], rows),
            reason=reason,
            differs=differs,
        )

    def _faults(self, event: WireEvent, row: Listed) -> Iterator[tuple[str, bool]]:
        """What the server finds wrong that is wrong, in texts that quote nothing.

        With each, whether it says no more than the record: that nobody knows its tokens.
        """
        for text in row.problems:
            if text.startswith((_NO_CUSTOMER, _NO_METER)):
                continue
            key = _absent(event, text)
            is_unknown = key == self._tokens.key and event.type == self._tokens.type
            if key is None or is_unknown:
                yield _told(text), is_unknown

    def _count_remarks(self, event: WireEvent, row: Listed) -> None:
        self.no_customer += any(text.startswith(_NO_CUSTOMER) for text in row.problems)
        self.no_meter += any(text.startswith(_NO_METER) for text in row.problems)
        self.no_value += any(_absent(event, text) is not None for text in row.problems)


def _absent(event: WireEvent, text: str) -> str | None:
    """The property that a meter misses and that the event never had, as it was sent."""
    absent = _ABSENT.fullmatch(text.removeprefix(_INVALID))
    return absent[1] if absent is not None and absent[1] not in event.data else None


def _told(text: str) -> str:
    text = text.removeprefix(_INVALID)
    if _ABSENT.fullmatch(text) is None:
        # "value cannot be parsed as float64: …": what follows is the value.
        text = text.partition(":")[0]
    return "".join(letter if letter.isprintable() else " " for letter in text)[:_MOST_LETTERS]


def _differences(event: WireEvent, rows: Iterable[Listed]) -> tuple[str, ...]:
    """What some row has otherwise than it was sent: by name, not by value."""
    found: dict[str, None] = {}
    for row in rows:
        for name in ("type", "subject", "time"):
            if getattr(row, name) != getattr(event, name):
                found[name] = None
        if not is_same_data(event.data, row.data):
            data = row.data if isinstance(row.data, dict) else {}
            for key in sorted({*event.data, *data}):
                if key not in data or not (
                    key in event.data and is_same_data(event.data[key], data[key])
                ):
                    found[f"data.{key}"] = None
    return tuple(found)
