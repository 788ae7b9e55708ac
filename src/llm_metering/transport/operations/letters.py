"""Dead events, read from the files that shippers append them to.

A shipper may be appending at any time, so nothing is ever taken out of a file. A line that was put
back to be delivered has its key `event` renamed to `again`, in place: it is no letter any more, to
a shipper neither, which writes a new line if the event is refused once more.

::

    dead/<debt>.ndjson                the lines, one for each event refused
    dead/<debt>.<batch>.lines         which of them a retry under way renames
    dead/<batch>.staged               a segment in the making (see `retrying`)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from ... import system
from ..counters import read_counters
from ..spool import Spool

__all__ = [
    "RETRYING",
    "Letter",
    "Letters",
    "lines_path",
    "mark_lines",
    "read_letters",
    "staged_path",
    "under_way",
]

RETRYING: Final = "retrying"
"""The counter whose keys are the batches of a retry that were decided and may be unfinished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """An event that a sink refused for good.

    Attributes:
        key: The key of the debt.
        sink: The sink's name.
        source: The event's source.
        id: The event's id.
        reason: What the sink said last.
        time: When that was, in RFC 3339.
        attempts: How often it was refused.
        payload: The CloudEvent.
        places: Where its lines can be marked as put back.
    """

    key: str
    sink: str
    source: str
    id: str
    reason: str
    time: str
    attempts: int
    payload: bytes
    places: tuple[int, ...]

    def describe(self) -> dict[str, Any]:
        """Whose call it was; of what the event holds no more than that."""
        event = _event.decode(self.payload)
        return {"subject": event.subject, "model": event.data.model, "event_time": event.time}


@dataclass(frozen=True, slots=True, kw_only=True)
class Letters:
    """The dead events of a home.

    Attributes:
        letters: One for each event and sink, the first refused first.
        unreadable: Lines that are none.
    """

    letters: tuple[Letter, ...]
    unreadable: int


class _Data(msgspec.Struct):
    model: str | None = None


class _Event(msgspec.Struct):
    id: str
    source: str
    subject: str | None = None
    time: str | None = None
    data: _Data = msgspec.field(default_factory=_Data)


class _Line(msgspec.Struct):
    time: str
    sink: str
    reason: str
    event: msgspec.Raw = msgspec.Raw()
    again: msgspec.Raw = msgspec.Raw()


@dataclass(slots=True)
class _Refusals:
    last: _Line
    places: list[int]


_line = msgspec.json.Decoder(_Line)
_event = msgspec.json.Decoder(_Event)
_DEAD: Final = b'"event"'
_AGAIN: Final = b'"again"'


def staged_path(spool: Spool, batch: str) -> Path:
    """Where the segment of a retry is made."""
    return spool.folder / "dead" / f"{batch}.staged"


def lines_path(spool: Spool, key: str, batch: str) -> Path:
    """Where it stands which lines a retry puts back."""
    return spool.folder / "dead" / f"{key}.{batch}.lines"


def under_way(spool: Spool, key: str = "*") -> Iterator[tuple[Path, str, str]]:
    """The lists of lines of retries under way, with the debt's key and the batch of each."""
    for path in sorted((spool.folder / "dead").glob(f"{key}.*.lines")):
        debt_key, batch, _ = path.name.split(".")
        yield path, debt_key, batch


def mark_lines(spool: Spool, key: str, places: Iterable[int]) -> None:
    """Mark lines as put back; those that are marked already stay so.

    Raises:
        OSError: If it cannot be written.
    """
    # Not for appending, which would write to the end whatever the place.
    with open(spool.dead_letters_path(key), "r+b", buffering=0) as file:
        for place in places:
            if system.read_at(file.fileno(), len(_DEAD), place) == _DEAD:
                system.write_at(file.fileno(), _AGAIN, place)
        system.sync_data(file.fileno())


def read_letters(spool: Spool, key: str | None = None) -> Letters:
    """The events that are dead now: refused, and not put back since.

    Args:
        spool: The folder; nothing is changed in it.
        key: Of the only debt to look at.
    """
    decided = read_counters(spool).counts.get(RETRYING, {})
    letters: list[Letter] = []
    unreadable = 0
    for path in sorted((spool.folder / "dead").glob(f"{key or '*'}.ndjson")):
        put_back: set[int] = set()
        for lines, _, batch in under_way(spool, path.stem):
            # One that crashed before it was decided has put nothing back.
            if batch in decided:
                put_back.update(msgspec.json.decode(lines.read_bytes(), type=list[int]))
        found, wrong = _read(path, put_back)
        letters += found
        unreadable += wrong
    return Letters(letters=tuple(letters), unreadable=unreadable)


def _read(path: Path, put_back: set[int]) -> tuple[list[Letter], int]:
    refused: dict[tuple[str, str], _Refusals] = {}
    attempts: Counter[tuple[str, str]] = Counter()
    begin = unreadable = 0
    with open(path, "rb") as file:
        for content in file:
            start, begin = begin, begin + len(content)
            if not content.strip():
                continue
            try:
                line = _line.decode(content)
                event = _event.decode(bytes(line.event) or bytes(line.again))
            except msgspec.DecodeError:
                unreadable += 1
                continue
            name = event.source, event.id
            attempts[name] += 1
            # A quotation mark inside a reason is escaped: this is the key.
            at = content.rfind(_DEAD, 0, content.rfind(bytes(line.event)))
            place = start + at
            if bytes(line.event) and at >= 0 and place not in put_back:
                places = [*(refused[name].places if name in refused else ()), place]
                refused[name] = _Refusals(line, places)
    letters = [
        Letter(
            key=path.stem,
            sink=refusals.last.sink,
            source=name[0],
            id=name[1],
            reason=refusals.last.reason,
            time=refusals.last.time,
            attempts=attempts[name],
            payload=bytes(refusals.last.event),
            places=tuple(refusals.places),
        )
        for name, refusals in refused.items()
    ]
    return letters, unreadable
