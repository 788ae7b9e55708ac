"""`ApiKey`: what a program may do that shows a key. Its text is `lmk_<id>_<secret>`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, get_args

__all__ = ["SCOPES", "ApiKey", "Scope"]

Scope = Literal["ingest", "read", "admin"]

SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
"""`ingest` sends events, and reserves and settles for calls; `read` asks what was used and what is left;
`admin` does both for everybody, and changes meters, grants and keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key, without its secret.

    Attributes:
        id: Its public part, which is in logs and events.
        name: What it is for, as its maker has called it.
        scopes: What it may do.
        sources: The CloudEvents sources that it may send events of; `None` is any.
        subjects: Whose usage it may send and see; `None` is everybody's.
        signed_subjects: Whether it names who pays by a token of `sign_subject` alone: whoever has it cannot
            make a subject up.
        requests_per_minute: How fast it may go; `None` is as the server says.
        created_at: In UTC.
        expires_at: The first moment at which it no longer holds, in UTC.
        revoked_at: When somebody took it back, in UTC.
        successor: The id of the key that was made in its place.
    """

    id: str
    name: str
    scopes: frozenset[Scope]
    sources: frozenset[str] | None = None
    subjects: frozenset[str] | None = None
    signed_subjects: bool = False
    requests_per_minute: int | None = None
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    successor: str | None = None

    def may(self, scope: Scope) -> bool:
        """Whether it has a scope, or all of them."""
        return scope in self.scopes or "admin" in self.scopes

    def covers_source(self, source: str) -> bool:
        """Whether it may send events of a source."""
        return self.sources is None or source in self.sources

    def covers_subject(self, subject: str) -> bool:
        """Whether it may send, or see, usage of a subject."""
        return self.subjects is None or subject in self.subjects
