"""What is signed of a ledger, and how.

The *link* of an event is the HMAC-SHA-256 (RFC 2104) of ``llm-metering ledger link 1:``, the link of the
event before it (of the first event, the first seal's `mac`), the SHA-256 of its body, and its place and
columns, as `CONTENT` has them, in UTF-8. So no event can be changed, taken out or put in without the
key: its own link would differ, or the next one.

A *seal* says something about the ledger as a whole. It is the HMAC-SHA-256 of ``llm-metering ledger
seal 1:`` and, in MessagePack, the array of: the `mac` of the seal before it (empty bytes of the first);
its number, kind, time, place, link, `before` and the key's id.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from typing import Final, Literal, NamedTuple

from msgspec import json, msgpack

from ._rows import ALL_COLUMNS

__all__ = ["CONTENT", "Seal", "SealKind", "Signer", "digest_of"]

# SQLite puts them together in half of the time that twenty values take to be handed over.
CONTENT: Final = "json_array({})".format(
    ", ".join(f"events.{each}" for each in ("rowid", *ALL_COLUMNS) if each != "payload")
)
"""The place of an event, and all of its columns but the body; SQLite refuses it of blobs."""

SealKind = Literal["begin", "signed", "prune"]


class Seal(NamedTuple):
    """What was signed about a ledger as a whole; the columns of its table.

    Attributes:
        number: From 1.
        kind: `begin`: events behind the last link are signed with this key from now on. `signed`: so are
            those by now that were there when signing began, up to the first seal's `place`. `prune`:
            bodies of events up to `place`, of before `before`, may be gone.
        time: When, in microseconds since 1970.
        place: The last event that there was.
        link: Its link; `None` if it had none.
        before: In microseconds since 1970.
        key_id: Of the key that has signed.
        mac: The signature.
    """

    number: int
    kind: SealKind
    time: int
    place: int
    link: bytes | None
    before: int | None
    key_id: str
    mac: bytes = b""


class Signer:
    """A key that links and seals are made with.

    Args:
        key: The secret.

    Attributes:
        id: Tells keys apart, and tells nothing of the key.
    """

    def __init__(self, key: bytes) -> None:
        id = hashlib.sha256(b"llm-metering ledger key:" + key).digest()[:6]
        self.id = urlsafe_b64encode(id).decode()
        # A copy of what has taken in the key costs less than half of a signature from the start.
        self._link = hmac.new(key, b"llm-metering ledger link 1:", "sha256").copy
        self._seal = hmac.new(key, b"llm-metering ledger seal 1:", "sha256").copy

    def __repr__(self) -> str:
        return f"<Signer {self.id}>"

    def link(self, previous: bytes, content: str, body: bytes) -> bytes:
        """The link of an event.

        Args:
            previous: That of the event before it.
            content: Its `CONTENT`.
            body: The SHA-256 of its body.
        """
        if "\\" in content:
            # Versions of SQLite need not write unusual characters alike.
            content = json.encode(json.decode(content)).decode()
        code = self._link()
        code.update(previous + body + content.encode())
        return code.digest()

    def seal(self, previous: Seal | None, seal: Seal) -> Seal:
        """A seal, signed."""
        code = self._seal()
        code.update(msgpack.encode((b"" if previous is None else previous.mac, *seal[:-1])))
        return seal._replace(mac=code.digest())


def digest_of(body: object) -> bytes:
    """What is signed of an event's body."""
    # A byte that no text has: what is no text, in a ledger that somebody has changed, is told apart.
    text = body.encode() if isinstance(body, str) else b"\xff" + msgpack.encode(body)
    return hashlib.sha256(text).digest()
