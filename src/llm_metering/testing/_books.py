"""What the fake server counts: events by their ids, and the sums of meters over them.

Source: `openmeter/dedupe/dedupe.go`, `openmeter/ingest` and `openmeter/meter/parse.go` of
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ._ingest import Event
from ._schema import ATTRIBUTES

__all__ = ["Books", "Row", "time_of"]

_NAMESPACE: Final = "default"


@dataclass(frozen=True, slots=True)
class Row:
    """An event that was stored.

    Attributes:
        number: How many were stored before it.
        event: The event without the attributes that OpenMeter drops.
        ingested_at: When it came, in seconds since 1970.
    """

    number: int
    event: Event
    ingested_at: float


class Books:
    """The events that are counted; not thread-safe, its owner has a lock.

    Args:
        dedupe: Whether an event whose source and id were seen is passed over.
        clock: Seconds since 1970.
        file: Where each row is written as well, and read from at the beginning.
    """

    def __init__(self, *, dedupe: bool, clock: Callable[[], float], file: Path | None) -> None:
        self.dedupe = dedupe
        self.rows: list[Row] = []
        self._seen: set[str] = set()
        self._clock = clock
        self._file = file
        if file is not None and file.exists():
            for line in file.read_text("utf-8").splitlines():
                stored = json.loads(line)
                self._keep(stored["event"], stored["ingested_at"])

    def ingest(
        self, events: Iterable[Event], *, fails_at: int | None = None, claims: bool = False
    ) -> bool:
        """Store a batch, one event after the other, as OpenMeter does.

        Args:
            events: The batch.
            fails_at: Which new event of it cannot be written.
            claims: Whether that event counts as seen all the same.

        Returns:
            Whether nothing failed.
        """
        new = 0
        for event in events:
            key = _key(event)
            if self.dedupe and key in self._seen:
                continue
            if new == fails_at:
                if claims:
                    self._seen.add(key)
                return False
            new += 1
            self._store(event)
        return True

    def _store(self, event: Event) -> None:
        now = self._clock()
        kept = {name: value for name, value in event.items() if name in ATTRIBUTES}
        if kept.get("time") is None:
            kept["time"] = datetime.fromtimestamp(now, UTC).isoformat().removesuffix("+00:00") + "Z"
        if time_of(kept) <= 0:
            return  # what is older than 1970 passes the API and is dropped behind it
        self._keep(kept, now)
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"event": kept, "ingested_at": now}) + "\n")

    def _keep(self, event: Event, ingested_at: float) -> None:
        if self.dedupe:
            self._seen.add(_key(event))
        self.rows.append(Row(len(self.rows), event, ingested_at))

    def totals(
        self, value_property: str, group_by: Sequence[str], event_type: str | None
    ) -> dict[tuple[str, ...], int | float]:
        """What a SUM meter says of each group.

        Args:
            value_property: JSONPath in `data`: `$.total_tokens`.
            group_by: JSONPaths in `data`, or `subject`.
            event_type: The type of the events that count; all of them if left out.

        Raises:
            ValueError: If a path is none of the simple kind.
        """
        value_path = _path(value_property)
        paths = [None if each == "subject" else _path(each) for each in group_by]
        totals: dict[tuple[str, ...], int | float] = {}
        for row in self.rows:
            value = _number(_look_up(row.event, value_path))
            if value is not None and event_type in (None, row.event["type"]):
                group = tuple(_group(row.event, path) for path in paths)
                totals[group] = totals.get(group, 0) + value
        return totals


def time_of(event: Mapping[str, Any]) -> int:
    """The time of a stored event in whole seconds, which is all that OpenMeter keeps of it."""
    return math.floor(datetime.fromisoformat(event["time"]).timestamp())


def _key(event: Event) -> str:
    # Ambiguous where a source ends with a dash and something; so is OpenMeter's.
    return f"{_NAMESPACE}-{event['source']}-{event['id']}"


def _path(text: str) -> tuple[str, ...]:
    root, *keys = text.split(".")
    if root != "$" or not keys or not all(keys) or any(c in text for c in "[]*@?"):
        raise ValueError(f"a path is written $.key or $.key.key here, not {text!r}")
    return tuple(keys)


def _look_up(event: Event, path: Iterable[str]) -> object:
    found: object = event.get("data")
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _number(value: object) -> int | float | None:
    """A value as a meter reads it; what it cannot read is passed over without a word."""
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return None
        value = int(number) if number.is_integer() else number
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def _group(event: Event, path: tuple[str, ...] | None) -> str:
    value = event["subject"] if path is None else _look_up(event, path)
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
