"""`Desk`: what the routes of a server work with."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Request

from ..access import ApiKeys, AuditLog, PortalTokens
from ..errors import SubjectTokenError
from ..meter import Meter
from ..subjects import SubjectVerifier
from ..subjects.tokens import holds_token
from .callers import Caller
from .intake import Intake
from .measures import Measures
from .options import ServerOptions
from .problems import Refusal
from .sources import Sources

__all__ = ["Asker", "Desk", "TheDesk", "caller_of", "desk_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What the routes of a server work with.

    Attributes:
        meter: The server's own meter.
        sources: Those of the applications whose events come in.
        intake: What records events.
        keys: The API keys.
        tokens: The portal tokens.
        audit: The audit log.
        measures: What Prometheus is told.
        options: How much is taken.
        one_thread: Where requests with events are worked on, one after another: several threads would
            take the interpreter from each other, and wait for one journal in the end.
    """

    meter: Meter
    sources: Sources
    intake: Intake
    keys: ApiKeys
    tokens: PortalTokens
    audit: AuditLog
    measures: Measures
    options: ServerOptions
    one_thread: ThreadPoolExecutor

    def now(self) -> datetime:
        """The present moment."""
        return datetime.now(UTC)

    def payer(self, source: str, subject: str) -> str:
        """Who pays: a subject as it is, or the one that a signed token names.

        Raises:
            Refusal: If there is a token in it that does not hold, or that nobody here can check.
        """
        if not holds_token(subject):
            return subject
        # Without a secret no token holds.
        secrets = self.meter.settings.subject_token_secrets
        try:
            return SubjectVerifier(secrets, audience=source).verify(subject)
        except SubjectTokenError as error:
            raise Refusal(
                403, "its subject is a token that does not hold", reason=f"subject {error.reason}"
            ) from None


def desk_of(request: Request) -> Desk:
    """The desk of the application that was asked."""
    desk: Desk = request.app.state.desk
    return desk


def caller_of(request: Request) -> Caller:
    """Who asks, as the gate has found out."""
    caller: Caller = request.state.caller
    return caller


TheDesk = Annotated[Desk, Depends(desk_of)]
Asker = Annotated[Caller, Depends(caller_of)]
