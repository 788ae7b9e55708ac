"""What `verify` says of a ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from .recounting import Difference

__all__ = ["Head", "Tampering", "TamperingKind", "Verification", "read_head"]

TamperingKind = Literal[
    "changed", "removed", "inserted", "body_removed", "seal", "truncated", "replaced", "unsigned"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The end of a signed ledger; kept elsewhere, it shows whether something was cut off.

    Attributes:
        place: The number of the last event that is signed, from 1; 0 if there is none.
        link: Its signature, in hexadecimal.
        seal: The number of the last seal.
        seal_mac: Its signature, in hexadecimal.
        key_id: Of the key that signs now.
    """

    place: int
    link: str
    seal: int
    seal_mac: str
    key_id: str


_head: Final = msgspec.json.Decoder(Head)


def read_head(data: bytes) -> Head:
    """A head that was written down as JSON; other keys beside its own are passed over.

    Raises:
        ValueError: If it is none.
    """
    return _head.decode(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tampering:
    """Something that nobody with the key has done.

    Attributes:
        kind: `changed`: an event, or its signature, says something else than was signed. `removed`: events
            were there once. `inserted`: events have no signature. `body_removed`: a body is gone which
            nobody has pruned. `seal`: what was signed about the ledger as a whole was changed.
            `truncated`: less is there than the head says. `replaced`: something else is there than the
            head says. `unsigned`: nobody has signed this yet, or all signatures are gone.
        first: The number of the first event that it is about, or of the seal; from 1.
        last: The number of the last.
    """

    kind: TamperingKind
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What became of looking at a ledger.

    Attributes:
        events: How many there are.
        signed: How many of them have a signature that is right.
        pruned: How many of these have given up their body.
        tampering: What nobody with the key has done, the first so many.
        more: How much more of that there is.
        head: The end of the ledger; `None` if it is not signed.
        wrong_sums: Where sums say something else than the events, the first so many of each table;
            `None` if the ledger has none yet, being of an older schema.
        damage: Why the file cannot be read to its end; `None` if it can.
    """

    events: int = 0
    signed: int = 0
    pruned: int = 0
    tampering: tuple[Tampering, ...] = ()
    more: int = 0
    head: Head | None = None
    wrong_sums: tuple[Difference, ...] | None = ()
    damage: str | None = None

    @property
    def is_intact(self) -> bool:
        """Whether nothing wrong was found."""
        return not (self.tampering or self.wrong_sums or self.damage)
