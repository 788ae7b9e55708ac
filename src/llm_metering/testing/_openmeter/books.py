"""What the fake server has taken: events by their ids, stored or still to be stored.

Source: `openmeter/dedupe/dedupe.go`, `openmeter/ingest`, `openmeter/sink` and
`openmeter/meter/parse.go` of
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from .ingest import Event
from .rows import Cursors, Row, Rows, time_of
from .schema import ATTRIBUTES
from .values import json_value, look_up, number_in, path_of

__all__ = ["Books"]

_NAMESPACE: Final = "default"

Choose = Callable[[Event], bool]


def _none(_event: Event) -> bool:
    return False


class Books:
    """The events that are counted; not thread-safe, its owner has a lock.

    Args:
        dedupe: Whether an event whose source and id were seen is passed over.
        clock: Seconds since 1970.
        file: Where each row is written as well, and read from at the beginning.
        cursors: What tells rows of one second apart.
    """

    def __init__(
        self,
        *,
        dedupe: bool,
        clock: Callable[[], float],
        file: Path | None,
        cursors: Cursors = "row",
    ) -> None:
        self.dedupe = dedupe
        self.rows = Rows(cursors)
        self._seen: set[str] = set()
        self._claims: set[str] = set()
        self._held: list[tuple[Event, float]] = []
        self._clock = clock
        self._file = file
        if file is not None and file.exists():
            for line in file.read_text("utf-8").splitlines():
                stored = json.loads(line)
                at = stored["ingested_at"]
                self._keep(stored["event"], at, stored.get("stored_at", at))

    def ingest(
        self,
        events: Iterable[Event],
        *,
        fails: Choose | None = None,
        fails_at: int = 0,
        claims: bool = False,
        loses: Choose = _none,
        holds: Choose = _none,
    ) -> bool:
        """Store a batch, one event after the other, as OpenMeter does.

        Args:
            events: The batch.
            fails: Which events may fail to be written.
            fails_at: Which of the new ones among those does, from 0.
            claims: Whether that event counts as seen all the same.
            loses: Which events are never stored, and not known either.
            holds: Which events are stored by `catch_up` alone.

        Returns:
            Whether nothing failed.
        """
        new = 0
        for event in events:
            key = _key(event)
            if self.dedupe and key in self._seen:
                continue
            if fails is not None and fails(event):
                if new == fails_at:
                    if claims:
                        self._seen.add(key)
                        self._claims.add(key)
                    return False
                new += 1
            if loses(event):
                continue
            kept, now = self._taken(event)
            if self.dedupe:
                self._seen.add(key)
            if holds(event):
                self._held.append((kept, now))
            else:
                self._store(kept, now, now)
        return True

    def catch_up(self) -> int:
        """Store what was held back; how many events that were."""
        held, self._held = self._held, []
        for event, ingested_at in held:
            self._store(event, ingested_at, self._clock())
        return len(held)

    def preload(self, events: Iterable[Event], *, at: float | None) -> int:
        """Store events as they are, each of them; how many that were."""
        before = len(self.rows)
        now = self._clock() if at is None else at
        for event in events:
            self._store(self._taken(event)[0], now, now)
        return len(self.rows) - before

    def forget_claims(self) -> int:
        """Forget the ids that were noted without an event; how many there were."""
        claims, self._claims = self._claims, set()
        self._seen -= claims
        return len(claims)

    def forget_ids(self) -> None:
        """Forget all ids, as when the time is over for which they are remembered."""
        self._seen.clear()
        self._claims.clear()

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
        value_path = path_of(value_property)
        paths = [None if each == "subject" else path_of(each) for each in group_by]
        totals: dict[tuple[str, ...], int | float] = {}
        for row in self.rows.all:
            value = _exact(look_up(row.event.get("data"), value_path))
            if value is not None and event_type in (None, row.event["type"]):
                group = tuple(_group(row, path) for path in paths)
                totals[group] = totals.get(group, 0) + value
        return totals

    def _taken(self, event: Event) -> tuple[Event, float]:
        now = self._clock()
        kept = {name: value for name, value in event.items() if name in ATTRIBUTES}
        if kept.get("time") is None:
            kept["time"] = datetime.fromtimestamp(now, UTC).isoformat().removesuffix("+00:00") + "Z"
        return kept, now

    def _store(self, event: Event, ingested_at: float, stored_at: float) -> None:
        if time_of(event) <= 0:
            return  # what is older than 1970 passes the API and is dropped behind it
        self._keep(event, ingested_at, stored_at)
        if self._file is not None:
            line = {"event": event, "ingested_at": ingested_at, "stored_at": stored_at}
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def _keep(self, event: Event, ingested_at: float, stored_at: float) -> None:
        if self.dedupe:
            self._seen.add(_key(event))
        self.rows.add(event, ingested_at=ingested_at, stored_at=stored_at)


def _key(event: Event) -> str:
    # Ambiguous where a source ends with a dash and something; so is OpenMeter's.
    return f"{_NAMESPACE}-{event['source']}-{event['id']}"


def _exact(value: Any) -> int | float | None:
    """A value as a meter reads it, and a whole number as one, for sums without an error."""
    number = number_in(value)
    if isinstance(number, str):
        return None
    if isinstance(value, int):
        return value
    return int(number) if number.is_integer() else number


def _group(row: Row, path: Sequence[str | int] | None) -> str:
    if path is None:
        subject: str = row.event["subject"]
        return subject
    return json_value(row.event.get("data"), path)
