"""Signed subjects: a token that says who pays, which nobody without the key can make.

::

    lms1.<key id>.<claims>.<code>

`lms1` names the format, and with it the one algorithm there is. `<key id>` is the first 6 bytes of
the SHA-256 of ``llm-metering subject key:`` and the key, `<claims>` the JSON object
``{"aud":"…","exp":…,"sub":"…"}`` in UTF-8, its keys in this order and without spaces, `<code>` the
HMAC-SHA-256 (RFC 2104) of all that stands before the last dot, in ASCII. Each is in base64url
(RFC 4648, section 5) without padding. `exp` is the first second, of the Unix clock, in which the
token holds no longer.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from ..errors import SubjectTokenError
from .names import check_subject

__all__ = ["DEFAULT_EXPIRES", "MIN_KEY_BYTES", "SubjectVerifier", "check_key", "sign_subject"]

PREFIX: Final = "lms1."
MIN_KEY_BYTES: Final = 32
"""As many as the code has (RFC 2104, section 3, advises no fewer)."""
DEFAULT_EXPIRES: Final = 3600.0
DEFAULT_AUDIENCE: Final = "llm-metering"
_MAX_TOKEN: Final = 16_384
_is_within: Final = re.compile(r"lms1\.[\w-]{8}\.[\w-]+\.[\w-]{43}", re.ASCII).search
_LAST_SECOND: Final = 253_402_300_800  # the end of the year 9999


# Its fields are encoded in this order.
class _Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    aud: str
    exp: int
    sub: str


_decoder: Final = msgspec.json.Decoder(_Claims)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedSubject:
    """What a token says that holds.

    Attributes:
        subject: Who pays.
        expires_at: The first moment at which it no longer holds, in UTC.
    """

    subject: str
    expires_at: datetime


def holds_token(text: str) -> bool:
    """Whether there is a token in a text, or something that looks like one."""
    return PREFIX in text and (text.startswith(PREFIX) or _is_within(text) is not None)


def check_key(key: object) -> bytes:
    """A signing key in bytes.

    Raises:
        ValueError: If it is shorter than `MIN_KEY_BYTES`, or no key. It is not repeated.
    """
    if isinstance(key, str):
        # What reads a secret from a file or a variable leaves its line break on it.
        key = key.strip().encode("utf-8", "surrogatepass")
    if not isinstance(key, bytes) or len(key) < MIN_KEY_BYTES:
        raise ValueError(
            f"a key of at least {MIN_KEY_BYTES} bytes is wanted, such as one that "
            "`python -c 'import secrets; print(secrets.token_urlsafe(32))'` prints"
        )
    return key


def sign_subject(
    subject: str,
    key: str | bytes,
    *,
    audience: str = DEFAULT_AUDIENCE,
    expires: float | timedelta | datetime = DEFAULT_EXPIRES,
) -> str:
    """A token that names who pays, to travel in the metadata of a request.

    A meter with `subject_from_metadata="signed"` bills the calls of that request to the subject,
    and takes no name that comes without a signature. Whoever has the token can use it until it
    expires, any number of times; it is not encrypted.

    Args:
        subject: Who pays.
        key: The secret, of at least 32 bytes, that the meter has among its
            `subject_token_secrets`.
        audience: The `source` of the application that is to accept it.
        expires: When it ends: in so many seconds, after a `timedelta`, or at an aware `datetime`.
            It must hold when a call starts; a call under way is not affected.

    Raises:
        SubjectError: If the subject cannot be one.
        ValueError: If the key is too short, the audience empty, or the end not in the future.
    """
    check_subject(subject)
    secret = check_key(key)
    if not isinstance(audience, str) or not audience:
        raise ValueError("audience is the source of an application, a non-empty string")
    claims = _Claims(audience, _end(expires, time.time()), subject)
    signed = f"{PREFIX}{_key_id(secret)}.{_text(msgspec.json.encode(claims))}"
    return f"{signed}.{_code(secret, signed)}"


class SubjectVerifier:
    """Accepts the tokens of `sign_subject`, and nothing else.

    Args:
        keys: The secrets, of which any may have signed: while a key is replaced, the new one and
            the old one.
        audience: Whom the tokens must be meant for.
        now: The clock, in seconds of the Unix time.

    Raises:
        ValueError: If a key is too short.
    """

    def __init__(
        self,
        keys: Iterable[str | bytes],
        *,
        audience: str = DEFAULT_AUDIENCE,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._keys = {_key_id(key): key for key in map(check_key, keys)}
        self._audience = audience
        self._now = now

    def __repr__(self) -> str:
        return f"<SubjectVerifier {self._audience!r} keys={len(self._keys)}>"

    def verify(self, token: str) -> str:
        """Who pays, by a token.

        Raises:
            SubjectTokenError: If it is none, was changed, signed with another key, meant for
                another audience, or has expired.
        """
        return self.read(token).subject

    def read(self, token: str) -> SignedSubject:
        """Who pays, by a token, and until when that holds.

        Raises:
            SubjectTokenError: As `verify`.
        """
        if len(token) > _MAX_TOKEN or not token.isascii() or not token.startswith(PREFIX):
            raise SubjectTokenError("malformed")
        signed, _, code = token.rpartition(".")
        key = self._keys.get(signed[len(PREFIX) :].partition(".")[0])
        if key is None:
            raise SubjectTokenError("unknown_key")
        # The texts are compared, not what they stand for: base64 has several for the same bytes.
        if not hmac.compare_digest(_code(key, signed), code):
            raise SubjectTokenError("wrong_signature")
        try:
            claims = _decoder.decode(_bytes(signed.rpartition(".")[2]))
            subject = check_subject(claims.sub)
            expires_at = datetime.fromtimestamp(claims.exp, UTC)
        except (ValueError, OverflowError, OSError):
            # Whoever has the key wrote something else with it.
            raise SubjectTokenError("malformed") from None
        if claims.aud != self._audience:
            raise SubjectTokenError("wrong_audience")
        if self._now() >= claims.exp:
            raise SubjectTokenError("expired")
        return SignedSubject(subject=subject, expires_at=expires_at)


def _end(expires: float | timedelta | datetime, now: float) -> int:
    if isinstance(expires, datetime):
        if expires.tzinfo is None:
            raise ValueError("expires names no time zone; give an aware datetime")
        end = expires.timestamp()
    elif isinstance(expires, timedelta):
        end = now + expires.total_seconds()
    elif isinstance(expires, bool) or not isinstance(expires, int | float):
        raise ValueError(  # noqa: TRY004  # like every other unusable value
            f"expires is in seconds, a timedelta or an aware datetime, got {type(expires).__name__}"
        )
    else:
        end = now + expires
    if not now < end < _LAST_SECOND:
        raise ValueError("expires must lie in the future, and on the calendar")
    return math.ceil(end)


def _key_id(key: bytes) -> str:
    return _text(hashlib.sha256(b"llm-metering subject key:" + key).digest()[:6])


def _code(key: bytes, signed: str) -> str:
    return _text(hmac.digest(key, signed.encode("ascii"), "sha256"))


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
