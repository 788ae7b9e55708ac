"""`Finding`: what became of one event between us and a server, where not all is simply well."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, Literal

__all__ = ["FAULTS", "KINDS", "Finding", "Kind", "Ledgered", "Off", "count_kinds", "off_by_subject"]

Kind = Literal[
    "missing",
    "claimed",
    "doubled",
    "invalid",
    "different",
    "collided",
    "dead",
    "unsettled",
    "suspect",
    "waiting",
    "not_owed",
    "recovered",
]
"""What is to be said of an event.

`missing`: the books say it was delivered, and the server does not have it. `claimed`: it was sent
once more, the server said yes, and does not have it. `doubled`: listed more often than sent.
`invalid`: listed, and the server cannot count it. `different`: listed with another content.
`collided`: several recorded events share its id. `dead`: the sink will never be offered it again.
`unsettled`: not listed, and the server may be behind. `suspect`: its delivery had no clear answer.
`waiting`: it is still owed. `not_owed`: it was recorded when this sink was not there. `recovered`:
it was missing, and is there now.
"""

FAULTS: Final[tuple[Kind, ...]] = (
    "missing",
    "claimed",
    "doubled",
    "invalid",
    "different",
    "collided",
    "dead",
)
"""What a bill is wrong by."""
KINDS: Final[tuple[Kind, ...]] = (
    *FAULTS,
    "unsettled",
    "suspect",
    "waiting",
    "not_owed",
    "recovered",
)

Off = Mapping[str, Mapping[str, Decimal]]
"""By meter and subject: what the server counts of an event, less what it should."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledgered:
    """An event as it should be listed, as far as a report tells of it.

    Attributes:
        record: The id of the recorded event.
        id: The id it was sent under.
        type: Its type.
        subject: Who pays.
        time: Whole seconds since 1970.
        tokens: What it adds to the bill; `None` if nobody knows.
    """

    record: str
    id: str
    type: str
    subject: str
    time: int
    tokens: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What became of an event.

    Attributes:
        kind: What is to be said of it.
        event: The event.
        listed: How often the server lists it.
        off: What it makes the server's sums wrong by. `""` is the meter that a bill is the sum of,
            whether the server has such a meter or not.
        reason: Why, where more can be said; never content, never a secret.
        differs: What the server has otherwise: attributes, and keys of `data`.
        attempts: How often it was sent again by this command.
        is_harmless: Whether no bill is wrong by it, though it is of a kind that mostly is a fault.
    """

    kind: Kind
    event: Ledgered
    listed: int = 0
    off: Off = field(default_factory=dict)
    reason: str | None = None
    differs: tuple[str, ...] = ()
    attempts: int = 0
    is_harmless: bool = False

    @property
    def is_fault(self) -> bool:
        """Whether a bill is wrong by it."""
        return self.kind in FAULTS and not self.is_harmless

    @property
    def tokens_off(self) -> Decimal:
        """What it makes the bill wrong by, all subjects together."""
        return sum(self.off.get("", {}).values(), Decimal(0))


def off_by_subject(findings: Iterable[Finding], meter: str = "") -> dict[str, Decimal]:
    """What the findings make a meter wrong by, by subject; those it is right for are left out."""
    sums: defaultdict[str, Decimal] = defaultdict(Decimal)
    for finding in findings:
        for subject, amount in finding.off.get(meter, {}).items():
            sums[subject] += amount
    return {subject: amount for subject, amount in sorted(sums.items()) if amount}


def count_kinds(findings: Iterable[Finding]) -> dict[Kind, int]:
    """How many there are of each kind, in the order of `KINDS`."""
    counts = Counter(finding.kind for finding in findings)
    return {kind: counts[kind] for kind in KINDS}
