"""`Unpriced`: that nobody knows what something cost, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Reason", "Unpriced"]

Reason = Literal[
    "unknown_usage", "inconsistent_usage", "unknown_model", "unknown_price", "too_large"
]
"""Why: nobody knows how much was used; its counts contradict each other; no price list knows the
model (at that time, on that tier); it has no price for one of the kinds; the amount is beyond what
the ledger keeps."""


@dataclass(frozen=True, slots=True)
class Unpriced:
    """What cannot be priced. It is a result of its own: it costs something, and not 0.

    Attributes:
        reason: Why.
        detail: The same for people: which model, kind or count it is about.
    """

    reason: Reason
    detail: str
