"""The arguments of `record` and `metered_stream`: a mistake in them is told where it is made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from ..errors import InvalidArgumentError, InvalidUsageError
from ..events import is_unicode, keyed_event_id
from ..extract.reading import moment, name_of
from ..token_usage import MAX_COUNT

__all__ = ["amount_of", "check_name", "keyed_id", "model_of", "moment_of", "snapshot"]


def moment_of(time: datetime | str | None) -> datetime | None:
    """When, in aware UTC; `None` if it was not said.

    Raises:
        InvalidArgumentError: If it is no time, or names no zone.
    """
    if time is None:
        return None
    found = moment(time) if isinstance(time, datetime | str) else None
    if found is None:
        raise InvalidArgumentError(
            "time is an aware datetime, or ISO 8601 with an offset, such as 2026-11-21T20:19:00Z"
        )
    return found


def amount_of(quantity: float | Decimal | None, unit: str | None) -> int | float | None:
    """How much of a unit; `None` if nothing was said of one.

    Raises:
        InvalidArgumentError: If one of the two is missing or of the wrong kind.
        InvalidUsageError: If the quantity is no finite number from 0.
    """
    if quantity is None and unit is None:
        return None
    if unit is None or name_of(unit) != unit or not unit.strip():
        raise InvalidArgumentError('a quantity needs a unit, such as unit="images"')
    if quantity is None:
        raise InvalidArgumentError(f"how many {unit}? give quantity=")
    if isinstance(quantity, bool) or not isinstance(quantity, int | float | Decimal):
        raise InvalidArgumentError(f"quantity is a number, got {type(quantity).__name__}")
    try:
        is_number = math.isfinite(quantity) and 0 <= quantity <= MAX_COUNT
    except (ArithmeticError, ValueError):  # a signalling NaN, an integer beyond all floats
        is_number = False
    if not is_number:
        raise InvalidUsageError(f"quantity is a number from 0 to {MAX_COUNT}")
    return int(quantity) if isinstance(quantity, int) else float(quantity)


def keyed_id(source: str, idempotency_key: str) -> str:
    """The id of an event that the user named.

    Raises:
        InvalidArgumentError: If the key is not a non-empty string.
    """
    if name_of(idempotency_key) is None or not is_unicode(idempotency_key):
        raise InvalidArgumentError("idempotency_key is a non-empty string")
    return keyed_event_id(source, idempotency_key)


def snapshot(request: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The request as it is now: the application goes on adding to its messages while we count.

    Raises:
        InvalidArgumentError: If it is no mapping.
    """
    if request is None:
        return None
    if not isinstance(request, Mapping):
        raise InvalidArgumentError(f"request is a mapping, got {type(request).__name__}")
    return {name: [*value] if isinstance(value, list) else value for name, value in request.items()}


def check_name(name: str, value: object) -> None:
    """Refuse a provider, model or operation that is no name.

    Raises:
        InvalidArgumentError: Naming the argument.
    """
    if value is not None and name_of(value) != value:
        raise InvalidArgumentError(
            f"{name} is a non-empty string of at most 1000 characters, got {type(value).__name__}"
        )


def model_of(request: Mapping[str, Any] | None) -> str | None:
    """The model that a request asks for."""
    return name_of(request.get("model")) if isinstance(request, Mapping) else None
