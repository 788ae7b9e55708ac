"""What the readers of the providers' native shapes have in common: sums, floats, JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Concatenate, ParamSpec

import msgspec

from ..errors import InvalidUsageError, UnknownUsageError
from ..token_usage import TokenUsage
from .flags import INVALID_USAGE, unknown_usage_flag
from .reading import NOTHING
from .views import as_mapping

__all__ = ["add", "as_json", "attempt", "first", "inside", "tidied", "tolerant", "whole"]

_Options = ParamSpec("_Options")


def add(base: object, *parts: object) -> int | None:
    """`base` and those of the `parts` that are known; `None` if `base` is not known.

    Raises:
        InvalidUsageError: If one of them is no count.
    """
    if base is None:
        return None
    total = 0
    for count in (base, *parts):
        if count is None:
            continue
        # A sum would hide a negative count, and turn True into a token.
        if type(count) is not int or count < 0:
            raise InvalidUsageError("one of the counts is no whole number of 0 or more")
        total += count
    return total


def whole(count: object) -> object:
    """A count that came as a float, such as 7.0, as the whole number it is; else what it was."""
    return int(count) if type(count) is float and count.is_integer() else count


def tidied(usage: Mapping[str, Any]) -> Mapping[str, Any]:
    """The usage with whole floats as whole numbers, and without what was not sent.

    It is `usage` itself where nothing is to be tidied. Speakeasy's SDKs (Mistral, OpenRouter) put
    an object where nothing was sent.
    """
    known: dict[str, Any] = {}
    has_changed = False
    for key, value in usage.items():
        if type(value).__name__ == "Unset":
            has_changed = True
            continue
        details = as_mapping(value)
        known[key] = whole(value) if details is None else tidied(details)
        has_changed = has_changed or known[key] is not (value if details is None else details)
    return known if has_changed else usage


def tolerant(
    extract: Callable[Concatenate[Any, _Options], TokenUsage],
) -> Callable[Concatenate[Any, _Options], TokenUsage]:
    """Let a reader of a usage read one that is valid only once it is tidied."""

    @wraps(extract)
    def read(usage: Any, /, *args: _Options.args, **options: _Options.kwargs) -> TokenUsage:
        try:
            return extract(usage, *args, **options)
        except InvalidUsageError:
            known = tidied(usage)
            if known is usage:
                raise
            return extract(known, *args, **options)

    return read


def first(fields: Mapping[str, Any], *names: str) -> Any:
    """The first of the fields that is not null."""
    for name in names:
        if (value := fields.get(name)) is not None:
            return value
    return None


def inside(value: object) -> Mapping[str, Any]:
    """The fields of an object inside another; none if it is absent, or no object."""
    return NOTHING if value is None else as_mapping(value) or NOTHING


def attempt(
    extract: Callable[[Mapping[str, Any]], TokenUsage], usage: object
) -> tuple[TokenUsage | None, tuple[str, ...]]:
    """The counts in a `usage` object, and the flag that says why there are none."""
    if usage is None:
        return None, ()
    if (fields := usage if type(usage) is dict else as_mapping(usage)) is None:
        return None, (INVALID_USAGE,)
    try:
        return extract(fields), ()
    except InvalidUsageError:
        return None, (INVALID_USAGE,)
    except UnknownUsageError as error:
        if all(value is None for value in fields.values()):
            return None, ()
        return None, (unknown_usage_flag(error.keys),)


def as_json(arguments: object) -> str:
    """The arguments of a tool call as the model wrote them, or near it."""
    if isinstance(arguments, str):
        return arguments
    if arguments is None:
        return ""
    try:
        return msgspec.json.encode(arguments).decode()
    except Exception:
        return ""
