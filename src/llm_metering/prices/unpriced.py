"""`Unpriced`: that nobody knows what something cost, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

__all__ = ["Reason", "Unpriced"]

Reason = Literal[
    "unknown_usage",
    "inconsistent_usage",
    "unknown_model",
    "unknown_price",
    "too_large",
    "not_priced",
]
"""Why: nobody knows how much was used; its counts contradict each other; no price list knows the
model (at that time); the one that does has no price on that tier or for one of the kinds; the amount is
beyond what the ledger keeps; nobody has looked for its price yet."""


@dataclass(frozen=True, slots=True)
class Unpriced:
    """What cannot be priced. It is a result of its own: it costs something, and not 0.

    Attributes:
        reason: Why.
        detail: The same for people: which model, kind or count it is about.
        valid_from: Where a price list says so, the first moment for which it does; `None` if it always
            did.
        valid_to: The first moment for which it no longer does; `None` if there is none.
    """

    reason: Reason
    detail: str
    valid_from: datetime | None = field(default=None, compare=False, repr=False)
    valid_to: datetime | None = field(default=None, compare=False, repr=False)
