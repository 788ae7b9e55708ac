"""`PortalToken`: what a customer may see, and the text that it travels as.

::

    lmp1.<claims>.<code>

`<claims>` is the JSON object ``{"exp":…,"id":"…","sub":"…","met":["…"]}`` in UTF-8, its keys in this
order and without spaces, `met` left out where the token is for all meters; `<code>` the HMAC-SHA-256
(RFC 2104) of all that stands before the last dot. Both are in base64url (RFC 4648, section 5) without
padding. `exp` is the first second, of the Unix clock, in which the token holds no longer.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from ..errors import PortalTokenError
from .file import microseconds

__all__ = ["PREFIX", "PortalToken", "SignedText", "text_of"]

PREFIX: Final = "lmp1."
_MAX_TOKEN: Final = 16_384
_is_token: Final = re.compile(r"(lmp1\.([\w-]+))\.([\w-]{43})", re.ASCII).fullmatch


# Its fields are encoded in this order.
class _Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    exp: int
    id: str
    sub: str
    met: tuple[str, ...] | None = None


_decoder: Final = msgspec.json.Decoder(_Claims)


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalToken:
    """A token, without its text.

    Attributes:
        id: Its name in lists and logs.
        subject: Whose usage it shows.
        meters: The slugs of the meters that it shows; `None` is all of them.
        created_at: In UTC.
        expires_at: The first moment at which it no longer holds, in UTC, a whole second.
        revoked_at: When somebody took it back, in UTC.
    """

    id: str
    subject: str
    meters: frozenset[str] | None
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None

    def covers_meter(self, slug: str) -> bool:
        """Whether it shows a meter."""
        return self.meters is None or slug in self.meters


class SignedText:
    """The text of a token, of which nobody knows yet whether it was signed here.

    Raises:
        PortalTokenError: If it is `malformed`.
    """

    def __init__(self, text: str) -> None:
        parts = _is_token(text) if len(text) <= _MAX_TOKEN else None
        if parts is None:
            raise PortalTokenError("malformed")
        self._signed, self._claims, self._given = parts.groups()

    def id(self, secret: bytes | None) -> str:
        """Of the token, if it was signed with a secret.

        Raises:
            PortalTokenError: If it has the `wrong_signature`.
        """
        # The texts are compared, not what they stand for: base64 has several for the same bytes.
        if secret is None or not hmac.compare_digest(_code(self._signed, secret), self._given):
            raise PortalTokenError("wrong_signature")
        padding = "=" * (-len(self._claims) % 4)
        return _decoder.decode(urlsafe_b64decode(self._claims + padding)).id


def text_of(token: PortalToken, secret: bytes) -> str:
    """The text of a token."""
    claims = _Claims(
        exp=microseconds(token.expires_at) // 1_000_000,
        id=token.id,
        sub=token.subject,
        met=None if token.meters is None else tuple(sorted(token.meters)),
    )
    signed = PREFIX + _base64(msgspec.json.encode(claims))
    return f"{signed}.{_code(signed, secret)}"


def _code(signed: str, secret: bytes) -> str:
    return _base64(hmac.digest(secret, signed.encode(), "sha256"))


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
