"""The check of the settings that hold keys to sign with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ..errors import ConfigurationError
from ..subjects.tokens import check_key
from .found import Found

__all__ = ["secrets"]


def secrets(name: str, found: Found) -> tuple[bytes, ...]:
    """The secrets of a setting, which takes one or several.

    Raises:
        ConfigurationError: If there is none, or one is too short; it is not repeated, not even in part.
    """
    value = found.value
    if isinstance(value, str):
        value = [secret for secret in re.split(r"[\s,]+", value) if secret]
    elif isinstance(value, bytes):
        value = [value]
    given = value if isinstance(value, Iterable) and not isinstance(value, Mapping) else (None,)
    try:
        keys = tuple(check_key(secret) for secret in given)
    except ValueError as error:
        raise ConfigurationError(name, f"{error} ({found.origin})") from None
    if not keys:
        raise ConfigurationError(name, f"a secret is wanted ({found.origin})")
    return keys
