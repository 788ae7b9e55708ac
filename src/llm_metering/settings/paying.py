"""The checks of the settings that say who pays."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

from ..errors import ConfigurationError, SubjectError
from ..events import check_dimensions
from ..subjects import FROM_METADATA, ON_MISSING
from ..subjects.tokens import check_key
from .found import Found, one_of, refusal

__all__ = ["PAYING"]


def _keys(name: str, found: Found) -> tuple[str, ...]:
    value = found.value
    if isinstance(value, str):
        keys: tuple[object, ...] = tuple(key for key in re.split(r"[\s,]+", value) if key)
        # An empty variable is a mistake of the deployment; an empty list was written so.
        is_meant = bool(keys)
    else:
        keys = (None,)
        if isinstance(value, Iterable) and not isinstance(value, Mapping | bytes):
            keys = tuple(value)
        is_meant = True
    if not is_meant or not all(isinstance(key, str) and key.strip() for key in keys):
        wanted = "keys of run metadata are wanted, as one string or a list of strings"
        raise refusal(name, found, wanted)
    return tuple(dict.fromkeys(str(key) for key in keys))


def _subject_keys(found: Found) -> tuple[str, ...]:
    keys = _keys("subject_keys", found)
    if not keys:
        wanted = "one key at least is wanted (subject_from_metadata='ignore' heeds none)"
        raise refusal("subject_keys", found, wanted)
    return keys


def _metadata_dimensions(found: Found) -> tuple[str, ...]:
    keys = _keys("metadata_dimensions", found)
    try:
        check_dimensions(dict.fromkeys(keys, ""))
    except SubjectError as error:
        raise refusal("metadata_dimensions", found, str(error)) from None
    return keys


def _subject_token_secrets(found: Found) -> tuple[bytes, ...]:
    value = found.value
    if isinstance(value, str):
        value = [secret for secret in re.split(r"[\s,]+", value) if secret]
    elif isinstance(value, bytes):
        value = [value]
    given = value if isinstance(value, Iterable) and not isinstance(value, Mapping) else (None,)
    try:
        secrets = tuple(check_key(secret) for secret in given)
    except ValueError as error:
        # The value is not repeated, not even in part.
        raise ConfigurationError("subject_token_secrets", f"{error} ({found.origin})") from None
    if not secrets:
        raise ConfigurationError("subject_token_secrets", f"a secret is wanted ({found.origin})")
    return secrets


PAYING: Final[Mapping[str, Callable[[Found], object]]] = {
    "on_missing_subject": partial(one_of, ON_MISSING, "on_missing_subject"),
    "subject_keys": _subject_keys,
    "subject_from_metadata": partial(one_of, FROM_METADATA, "subject_from_metadata"),
    "subject_token_secrets": _subject_token_secrets,
    "metadata_dimensions": _metadata_dimensions,
}
"""By name, as `CHECKS` has them."""
