"""What of a run's metadata is heeded: who pays, and what usage is grouped by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from ..errors import SubjectTokenError
from ..events import is_unicode
from .names import is_usable, plain
from .tokens import SubjectVerifier, holds_token

__all__ = ["FROM_METADATA", "MAX_DIMENSION_LENGTH", "METADATA_KEYS", "FromMetadata", "SubjectRules"]

METADATA_KEYS: Final = ("llm_metering_subject", "subject")
"""Keys of run metadata that name the subject, first found wins, unless a setting names others."""

MAX_DIMENSION_LENGTH: Final = 256
"""Characters of a dimension that comes from metadata. A longer one is text, not a name; it is
dropped, since a part of it would be another name."""

_MAX_BITS: Final = 128
"""Of a whole number; Python refuses to write very long ones."""

FromMetadata = Literal["trust", "signed", "ignore"]
FROM_METADATA: Final[tuple[FromMetadata, ...]] = ("trust", "signed", "ignore")
"""Whether a subject in metadata is taken as it stands, by a signed token only, or never."""

Flags = tuple[str, ...]
Enclosing = Callable[[], Mapping[str, Any] | None]


class SubjectRules(msgspec.Struct, frozen=True, kw_only=True):
    """How a meter reads run metadata.

    Attributes:
        keys: The keys that name who pays, first found wins.
        from_metadata: Whether such a name counts.
        verifier: What accepts signed subjects; `None` accepts none.
        dimensions: The keys whose values become dimensions.
    """

    keys: tuple[str, ...] = METADATA_KEYS
    from_metadata: FromMetadata = "trust"
    verifier: SubjectVerifier | None = None
    dimensions: tuple[str, ...] = ()

    def subject_in(
        self, metadata: Mapping[str, Any] | None, enclosing: Enclosing | None = None
    ) -> tuple[str | None, Flags]:
        """Who pays by the metadata, and what was odd there.

        Args:
            metadata: The run's own.
            enclosing: Gives that of the run around it, where the run's own does not say.
        """
        if self.from_metadata == "ignore":
            return None, ()
        name, flags = self._named(metadata, ())
        if name is None and enclosing is not None:
            return self._named(enclosing(), flags)
        return name, flags

    def dimensions_in(
        self, metadata: Mapping[str, Any] | None, enclosing: Enclosing | None = None
    ) -> tuple[dict[str, str], Flags]:
        """The dimensions that the metadata holds, and what was odd there; see `subject_in`."""
        found: dict[str, str] = {}
        flags: Flags = ()
        metadata = metadata or {}
        around: Mapping[str, Any] | None = None
        for key in self.dimensions:
            value = metadata.get(key)
            if value is None and enclosing is not None:
                if around is None:
                    around = enclosing() or {}
                value = around.get(key)
            if value is None:
                continue
            text = _text_of(value)
            if text is None:
                flags = ("invalid_dimension",)
            else:
                found[key] = text
        return found, flags

    def _named(self, metadata: Mapping[str, Any] | None, flags: Flags) -> tuple[str | None, Flags]:
        if not metadata:
            return None, flags
        for key in self.keys:
            value = metadata.get(key)
            if value is None:
                continue
            name, flag = self._payer(value)
            if name is not None:
                return name, flags
            if flag not in flags:
                flags = (*flags, flag)
        return None, flags

    def _payer(self, value: object) -> tuple[str | None, str]:
        text = plain(value) if isinstance(value, str) else None
        # A token is never a name, whatever the setting: it would be a bearer's proof, on a bill.
        if self.from_metadata == "signed" or (text is not None and holds_token(text)):
            if text is not None and self.verifier is not None:
                try:
                    return self.verifier.verify(text), ""
                except SubjectTokenError:
                    pass  # the flag says so; which of the reasons it was helps a forger alone
            return None, "invalid_subject_token"
        if text is not None and is_usable(text):
            return text, ""
        return None, "invalid_subject"


def _text_of(value: object) -> str | None:
    """A value of metadata as a dimension; `None` if it is none."""
    if isinstance(value, str):
        text = plain(value)
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, int) and value.bit_length() <= _MAX_BITS:
        text = int.__repr__(value)
    elif isinstance(value, float) and math.isfinite(value):
        text = float.__repr__(value)
    elif isinstance(value, UUID):
        text = str(value)
    else:
        # Lists and objects may hold anything, text of the application included.
        return None
    is_name = len(text) <= MAX_DIMENSION_LENGTH and is_unicode(text) and not holds_token(text)
    return text if is_name else None
