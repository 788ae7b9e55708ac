"""`Desk`: what the routes of a server work with."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from ..access import ApiKeys, AuditLog, PortalTokens, Scope, Sessions
from ..errors import SubjectTokenError
from ..meter import Meter
from ..subjects import SubjectVerifier
from ..subjects.tokens import holds_token
from .allowance import Allowance
from .callers import Caller
from .intake import Intake
from .known_subjects import KnownSubjects
from .measures import Measures
from .options import ServerOptions
from .problems import Refusal
from .reading import Reading
from .sources import Sources
from .stored_meters import StoredMeters

__all__ = [
    "Admin",
    "Asker",
    "Desk",
    "Reader",
    "ReaderOfAll",
    "Sender",
    "TheDesk",
    "caller_of",
    "desk_of",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What the routes of a server work with.

    Attributes:
        meter: The server's own meter.
        sources: Those of the applications whose events come in.
        intake: What records events.
        keys: The API keys.
        tokens: The portal tokens.
        sessions: Who has signed in to the pages.
        audit: The audit log.
        measures: What Prometheus is told.
        options: How much is taken.
        meters: The meters that there are.
        subjects: What is known of subjects.
        reading: What the ledger is asked by.
        allowance: What balances are asked by.
        one_thread: Where requests with events are worked on, one after another: several threads would
            take the interpreter from each other, and wait for one journal in the end.
    """

    meter: Meter
    sources: Sources
    intake: Intake
    keys: ApiKeys
    tokens: PortalTokens
    sessions: Sessions
    audit: AuditLog
    measures: Measures
    options: ServerOptions
    meters: StoredMeters
    subjects: KnownSubjects
    reading: Reading
    allowance: Allowance
    one_thread: ThreadPoolExecutor

    def now(self) -> datetime:
        """The present moment."""
        return datetime.now(UTC)

    async def noted(self, action: str, caller: Caller, **facts: object) -> None:
        """Write down in the audit log what a caller has done."""
        await run_in_threadpool(
            partial(self.audit.note, action, actor=caller.actor, client=caller.client, **facts)
        )

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


# Coroutines, although they wait for nothing: what is none runs in a thread.
async def desk_of(request: Request) -> Desk:
    """The desk of the application that was asked."""
    desk: Desk = request.app.state.desk
    return desk


async def caller_of(request: Request) -> Caller:
    """Who asks, as the gate has found out."""
    caller: Caller = request.state.caller
    return caller


TheDesk = Annotated[Desk, Depends(desk_of)]
Asker = Annotated[Caller, Depends(caller_of)]


def _needing(scope: Scope, *, everybody: bool = False) -> Any:
    """The caller, if it has a scope; found out before the body of the request is looked at."""

    async def check(caller: Asker) -> Caller:
        caller.needs(scope)
        if everybody:
            caller.needs_everybody()
        return caller

    return Depends(check)


Sender = Annotated[Caller, _needing("ingest")]
Reader = Annotated[Caller, _needing("read")]
ReaderOfAll = Annotated[Caller, _needing("read", everybody=True)]
# A key that may do everything is bound to nobody.
Admin = Annotated[Caller, _needing("admin")]
