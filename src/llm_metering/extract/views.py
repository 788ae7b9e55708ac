"""Looking into responses of the providers' SDKs without copying them.

The SDKs of OpenAI, Anthropic, Google, Cohere and Mistral answer with pydantic models; botocore with
dicts. A model's `model_dump()` would copy the whole answer for the sake of a few numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["as_list", "as_mapping", "copy_of"]

_NO_MODEL: Final = object()
_SCALARS: Final = frozenset([int, str, float, bool, type(None)])


def as_mapping(value: object) -> Mapping[str, Any] | None:
    """The fields of `value` by name, shallow; `None` if it has none.

    What stands in a field may again be an object that wants `as_mapping`.
    """
    if type(value) is dict:
        return value
    if value is None:
        return None
    # Asked first, since `isinstance(…, Mapping)` costs more than all the rest for an object.
    # pydantic keeps here what its model does not declare: `x_groq`, `cost`, a new count.
    extra = getattr(value, "__pydantic_extra__", _NO_MODEL)
    if extra is _NO_MODEL:
        if isinstance(value, Mapping):
            return value
        if isinstance(value, str | bytes | int | float | list | tuple | type):
            return None
    fields = getattr(value, "__dict__", None)
    if not isinstance(fields, dict):
        return None
    return {**fields, **extra} if isinstance(extra, dict) and extra else fields


def as_list(value: object) -> list[Any] | tuple[Any, ...]:
    """`value` if it is a list or a tuple, else nothing."""
    return value if isinstance(value, list | tuple) else ()


def copy_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields and those of the objects in them, which the application may change later."""
    copied = dict(fields)
    for name, value in copied.items():
        if value.__class__ in _SCALARS:
            continue
        # What has no fields may be a mark, such as that of Speakeasy's SDKs for what was not sent.
        if inner := as_mapping(value):
            copied[name] = dict(inner)
    return copied
