"""Parameters in the addresses of requests: how the document tells of them, and which are refused."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from fastapi import Request

from ..errors import QueryError
from ..meters.moments import read_moment
from .problems import Refusal

__all__ = ["PERIOD", "check_parameters", "moment_of", "parameter", "whole_number_of"]


def parameter(name: str, schema: dict[str, Any], description: str, **more: Any) -> dict[str, Any]:
    """A parameter of a query string, for the document."""
    return {"name": name, "in": "query", "schema": schema, "description": description, **more}


PERIOD: Final = [
    parameter(
        "from",
        {"type": "string", "format": "date-time"},
        "The first moment that counts, by RFC 3339.",
    ),
    parameter(
        "to",
        {"type": "string", "format": "date-time"},
        "The first moment after it that no longer counts.",
    ),
]


def check_parameters(request: Request, known: Collection[str]) -> None:
    """Refuse parameters that nobody knows, and those that come twice.

    What was passed over would make an answer one to another question.

    Raises:
        Refusal: Naming one of them (400).
    """
    seen = set()
    for name, _ in request.query_params.multi_items():
        if name not in known:
            raise Refusal(400, f"there is no parameter {name[:100]}")
        if name in seen:
            raise Refusal(400, f"the parameter {name} comes twice")
        seen.add(name)


def moment_of(request: Request, name: str) -> datetime | None:
    """The time that a parameter names, in UTC; `None` if it is not there.

    Raises:
        Refusal: If it is none (400).
    """
    try:
        return read_moment(name, request.query_params.get(name))
    except QueryError as error:
        raise Refusal(400, str(error)) from None


def whole_number_of(request: Request, name: str, *, default: int, most: int) -> int:
    """The number that a parameter names, from 1 on.

    Raises:
        Refusal: If it is none, or too large (400).
    """
    text = request.query_params.get(name)
    if text is None:
        return default
    digits = text if text.isascii() and text.isdecimal() and len(text) < 10 else "0"
    if not 1 <= int(digits) <= most:
        raise Refusal(400, f"{name} is a whole number from 1 to {most}")
    return int(digits)
