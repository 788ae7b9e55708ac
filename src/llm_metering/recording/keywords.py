"""The keyword arguments of `record`, for functions that pass them on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from ..limits import Reservation

__all__ = ["RecordArguments"]


class RecordArguments(TypedDict, total=False):
    """What `Meter.record` may be told beside the response and the subject; it documents them."""

    dimensions: Mapping[str, str] | None
    time: datetime | str | None
    idempotency_key: str | None
    quantity: float | Decimal | None
    unit: str | None
    provider: str | None
    model: str | None
    operation: str | None
    service_tier: str | None
    request: Mapping[str, Any] | None
    reservation: Reservation | str | None
