"""`Caller`: who asks, and what they may."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..access import ApiKey, Scope
from .problems import Refusal

if TYPE_CHECKING:
    from ..access import PortalToken

__all__ = ["Caller"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks: a program with a key, a customer with a token, or somebody where neither is wanted.

    Attributes:
        key: The API key.
        token: The portal token.
        client: The address it comes from.
    """

    key: ApiKey | None = None
    token: PortalToken | None = None
    client: str | None = None

    @property
    def actor(self) -> str:
        """How the audit log calls it."""
        if self.key is not None:
            return f"key:{self.key.id}"
        return "anonymous" if self.token is None else f"token:{self.token.id}"

    def may(self, scope: Scope) -> bool:
        """Whether it has a scope."""
        return self.token is None and (self.key is None or self.key.may(scope))

    def needs(self, scope: Scope) -> None:
        """Go on if it has a scope.

        Raises:
            Refusal: If not. A portal token has none: what it may see has paths of its own.
        """
        if not self.may(scope):
            raise Refusal(403, f"this needs the scope {scope}", reason="wrong scope")

    def may_send(self, source: str, subject: str, *, is_signed: bool) -> None:
        """Go on if it may send events of a source and a subject.

        Args:
            source: The source.
            subject: Who pays.
            is_signed: Whether a token says so.

        Raises:
            Refusal: If not.
        """
        if self.key is None:
            return
        if self.key.signed_subjects and not is_signed:
            raise Refusal(403, "this key names who pays by a signed token", reason="unsigned")
        if not self.key.covers_source(source):
            raise Refusal(403, "this key may not send events of that source", reason="source")
        self.needs_subject(subject)

    def needs_everybody(self) -> None:
        """Go on if it may see what is of whoever.

        Raises:
            Refusal: If it is bound to subjects.
        """
        if self.key is not None and self.key.subjects is not None:
            raise Refusal(403, "this key is for some subjects alone", reason="subject")

    def needs_subjects(self, subjects: Iterable[str] | None) -> None:
        """Go on if it may see what is of some subjects; `None`, and none at all, is everybody.

        Raises:
            Refusal: If not.
        """
        listed = tuple(subjects or ())
        if not listed:
            self.needs_everybody()
        for subject in listed:
            self.needs_subject(subject)

    def needs_token(self) -> PortalToken:
        """The portal token that it has shown.

        Raises:
            Refusal: If it has shown none.
        """
        if self.token is None:
            raise Refusal(403, "this is for customers: it takes a portal token", reason="no token")
        return self.token

    def needs_to_name(self, subject: str) -> None:
        """Go on if it may say by itself that a subject pays.

        Raises:
            Refusal: If not.
        """
        if self.key is not None and self.key.signed_subjects:
            raise Refusal(403, "this key names who pays by a signed token", reason="unsigned")
        self.needs_subject(subject)

    def needs_subject(self, subject: str) -> None:
        """Go on if it may see, and send, what is of a subject.

        Raises:
            Refusal: If not.
        """
        if self.key is not None and not self.key.covers_subject(subject):
            raise Refusal(403, "this key is for other subjects", reason="subject")
