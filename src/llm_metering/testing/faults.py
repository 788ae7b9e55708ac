"""What can go wrong at a fake server: faults to give to `OpenMeterServer.order`.

They are values, each for one stage of a request, so that faults of different stages combine:
refused before it is looked at, refused for what is in it, stored or not, answered or not. Of two
faults of one stage the one that was named first counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final, Literal

from ._openmeter.selection import Selection

__all__ = [
    "ClaimBeforeWrite",
    "Fault",
    "Hang",
    "Lag",
    "LostAfterAccept",
    "Poison",
    "Redirect",
    "Refuse",
    "Reset",
    "Slow",
    "TooLarge",
    "Unreadable",
    "WriteFails",
    "fault_from",
]


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with a status, look at nothing and store nothing.

    >>> Refuse(503, retry_after=30)
    Refuse(status=503, retry_after=30, detail=None, headers={}, body=None)

    Attributes:
        status: 500, 503, 401, 403, 404, 422, 429, 400, …; any from 200 on.
        retry_after: Seconds, a moment (sent as an HTTP date), or the header as it stands.
        detail: What the problem document says.
        headers: Further headers of the answer.
        body: The answer's body, instead of a problem document.
    """

    status: int
    retry_after: int | str | datetime | None = None
    detail: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 999:
            raise ValueError(f"no answer has the status {self.status}")
        if isinstance(self.retry_after, datetime) and self.retry_after.tzinfo is None:
            raise ValueError("retry_after must be aware; use datetime.now(UTC)")


@dataclass(frozen=True, slots=True)
class Redirect:
    """Send the client elsewhere, and store nothing.

    Attributes:
        to: The `Location`.
        status: 301, 302, 303, 307 or 308.
    """

    to: str
    status: int = 307


@dataclass(frozen=True, slots=True, kw_only=True)
class Poison(Selection):
    """Refuse each batch that holds a certain event, the whole of it.

    An event is meant if all that is given here fits it.

    Attributes:
        id: Its id, or several.
        subject: Its subject.
        data: Keys of its `data` with their values.
        matches: A function of the event.
        status: 400, or another refusal.
    """

    status: int = 400

    def __post_init__(self) -> None:
        if self.id is None and self.subject is None and not self.data and self.matches is None:
            raise ValueError("say which events are poisoned: id, subject, data or matches")


@dataclass(frozen=True, slots=True, kw_only=True)
class TooLarge:
    """Answer 413 to requests above a size, as a proxy in front may.

    Attributes:
        max_events: The most events that pass.
        max_bytes: The longest body that passes.
    """

    max_events: int | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.max_events is None and self.max_bytes is None:
            raise ValueError("say what is too large: max_events or max_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class LostAfterAccept(Selection):
    """Answer success and do not keep an event: OpenMeter's 204 says that it has it in memory.

    Attributes:
        id: The id of what is lost, or several; all of the batch, if nothing here is given.
        subject: Its subject.
        data: Keys of its `data` with their values.
        matches: A function of the event.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag(Selection):
    """Take an event, and store it only when `catch_up()` is called.

    Until then it is in no list and counts in no meter, as in an OpenMeter whose sink worker is
    behind; then its `storedAt` is later than its `ingestedAt`. Deduplication knows it at once.

    Attributes:
        id: The id of what is late, or several; all of the batch, if nothing here is given.
        subject: Its subject.
        data: Keys of its `data` with their values.
        matches: A function of the event.
    """


@dataclass(frozen=True, slots=True)
class ClaimBeforeWrite(Selection):
    """Fail a write after the event's id was noted as seen, as in openmeter#5118.

    The events before it are stored, it is not, and the answer is 500. A retry gets its 204,
    since the id is known, and this event is never counted; not until `forget_claims()`. It needs
    a server that deduplicates.

    Attributes:
        at: Which new event of the batch cannot be written, from 0; of those that are meant.
        id: The id of what cannot be written, or several; any event, if nothing here is given.
        subject: Its subject.
        data: Keys of its `data` with their values.
        matches: A function of the event.
    """

    at: int = 0


@dataclass(frozen=True, slots=True)
class WriteFails(Selection):
    """Fail a write: the events before it are stored, it and those behind it are not; 500.

    Attributes:
        at: Which new event of the batch cannot be written, from 0; of those that are meant.
        id: The id of what cannot be written, or several; any event, if nothing here is given.
        subject: Its subject.
        data: Keys of its `data` with their values.
        matches: A function of the event.
    """

    at: int = 0


@dataclass(frozen=True, slots=True)
class Reset:
    """Break the connection.

    Attributes:
        when: `before` the request is looked at; `after` it was stored, without an answer; or
            `during` the answer, half of which is sent.
    """

    when: Literal["before", "after", "during"] = "before"

    def __post_init__(self) -> None:
        if self.when not in ("before", "after", "during"):
            raise ValueError(f"a reset comes before, during or after, not {self.when!r}")


@dataclass(frozen=True, slots=True)
class Hang:
    """Take the request and say nothing until `release()`; then go on as if nothing had been.

    Attributes:
        when: `before` the request is looked at, or `after` it was stored.
    """

    when: Literal["before", "after"] = "before"

    def __post_init__(self) -> None:
        if self.when not in ("before", "after"):
            raise ValueError(f"a server hangs before or after, not {self.when!r}")


@dataclass(frozen=True, slots=True)
class Slow:
    """Send the answer in pieces, and wait between them.

    Attributes:
        seconds: What `wait` is called with.
        piece: Bytes of a piece.
        wait: How to wait; a test that gives its own needs no time.
    """

    seconds: float = 0.01
    piece: int = 1
    wait: Callable[[float], object] = time.sleep

    def __post_init__(self) -> None:
        if self.piece < 1:
            raise ValueError("a piece has one byte at least")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Store, and answer success with a body that cannot be decoded.

    Attributes:
        status: A status that has a body.
    """

    status: int = 200


Fault = (
    Refuse
    | Redirect
    | Poison
    | TooLarge
    | LostAfterAccept
    | Lag
    | ClaimBeforeWrite
    | WriteFails
    | Reset
    | Hang
    | Slow
    | Unreadable
)

_FAULTS: Final[Mapping[str, type[Any]]] = {
    kind.__name__: kind
    for kind in (
        *(Refuse, Redirect, Poison, TooLarge, LostAfterAccept, Lag, ClaimBeforeWrite, WriteFails),
        *(Reset, Hang, Slow, Unreadable),
    )
}
_NOT_IN_JSON: Final = frozenset(["matches", "wait", "body"])


def fault_from(document: Mapping[str, Any]) -> Fault:
    """The fault that JSON describes: its name under `fault`, and its attributes.

    >>> fault_from({"fault": "Refuse", "status": 503})
    Refuse(status=503, retry_after=None, detail=None, headers={}, body=None)

    Raises:
        ValueError: If there is none like it, or an attribute is none of its own.
    """
    given = dict(document)
    name = given.pop("fault", None)
    kind = _FAULTS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(f"no fault {name!r}; there are {', '.join(_FAULTS)}")
    known = {each.name for each in fields(kind)} - _NOT_IN_JSON
    if not given.keys() <= known:
        raise ValueError(f"{name} takes {', '.join(sorted(known)) or 'nothing'}")
    try:
        fault: Fault = kind(**given)
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from None
    return fault
