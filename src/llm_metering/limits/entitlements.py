"""What an OpenMeter server says of entitlements.

Source: `getEntitlementValue`, `listSubjectEntitlements`, `getCustomerEntitlementValueV2` and
`getCustomerEntitlementV2` of `api/openapi.yaml`, and `openmeter/entitlement` (`metered/balance.go`,
`driver/entitlement.go`), https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c.
Facts that shape this module:

- A balance is never negative, and counts what is in ClickHouse of all minutes up to the present one.
- A value does not say whether a limit is soft. A soft one gives access where nothing is left.
- Boolean and static entitlements have no balance, and neither has one that is not active.
- Who is no subject is answered with 404, who is no customer's with 412.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal
from urllib.parse import quote

from .. import system
from ..errors import LimitStoreError
from ..sinks.asking import Asker, Reply, UnreachableError

__all__ = ["APIS", "EntitlementAPI", "EntitlementServer", "EntitlementValue", "NoAnswerError"]

EntitlementAPI = Literal["v1", "v2"]
"""By the keys of subjects, or by those of customers."""

APIS: Final[tuple[EntitlementAPI, ...]] = ("v1", "v2")

_PATHS: Final[Mapping[EntitlementAPI, tuple[str, str]]] = {
    "v1": (
        "/api/v1/subjects/{who}/entitlements/{feature}/value",
        "/api/v1/subjects/{who}/entitlements",
    ),
    "v2": (
        "/api/v2/customers/{who}/entitlements/{feature}/value",
        "/api/v2/customers/{who}/entitlements/{feature}",
    ),
}
_DOTS: Final = (".", "..")


class NoAnswerError(LimitStoreError):
    """A server that does not say what somebody is entitled to.

    Attributes:
        reason: In one word, for counts.
        retry_after: Seconds that it asks to wait, if it does.
        is_general: Whether others would hear the same.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        retry_after: float | None = None,
        is_general: bool = False,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after
        self.is_general = is_general


@dataclass(frozen=True, slots=True, kw_only=True)
class EntitlementValue:
    """What somebody is entitled to, in the unit of the feature's meter.

    Attributes:
        has_access: Whether it may be used now.
        balance: What is left; `None` where nothing is counted.
        usage: What was used in the usage period.
        overage: What of it no grant has paid for.
    """

    has_access: bool
    balance: Decimal | None = None
    usage: Decimal = Decimal(0)
    overage: Decimal = Decimal(0)


class EntitlementServer:
    """Asks one server; safe in several threads.

    Args:
        base: Where its API begins: `https://openmeter.cloud`.
        token: Its API key, if it has one.
        api: By what it is asked.
        limit: Seconds for each request.
    """

    def __init__(
        self, base: str, *, token: str | None = None, api: EntitlementAPI = "v1", limit: float = 5.0
    ) -> None:
        self.base = base
        self._token = token
        self._value, self._definition = _PATHS[api]
        self._limit = limit
        self._begin()
        system.on_fork(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._open: contextlib.ExitStack | None = None
        self._asker: Asker | None = None

    def __repr__(self) -> str:
        return f"<EntitlementServer {self.base}>"

    def after_fork(self) -> None:
        """In a forked child: connections are the parent's."""
        if self._asker is not None:
            system.never_close(self._asker)
        self._begin()

    def close(self) -> None:
        """Close connections; the next question opens others."""
        with self._lock:
            opened, self._open, self._asker = self._open, None, None
        if opened is not None:
            opened.close()

    def value(self, subject: str, feature: str) -> EntitlementValue | None:
        """What a subject is entitled to of a feature; `None` if it has no entitlement.

        Raises:
            NoAnswerError: If the server does not say.
        """
        document = self._ask(self._value, subject, feature)
        if document is None:
            return None
        try:
            return _value_of(document)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._unreadable() from None

    def is_soft(self, subject: str, feature: str) -> bool:
        """Whether the entitlement of a subject is only counted, and limits nothing.

        Raises:
            NoAnswerError: If the server does not say.
        """
        document = self._ask(self._definition, subject, feature)
        try:
            listed = document if isinstance(document, list) else [document] if document else []
            soft = [each.get("isSoftLimit") for each in listed if each["featureKey"] == feature]
        except (KeyError, TypeError, AttributeError):
            raise self._unreadable() from None
        return soft == [True]

    def _ask(self, path: str, subject: str, feature: str) -> Any:
        """The JSON that a question is answered with; `None` if there is nothing of the kind."""
        if subject in _DOTS or feature in _DOTS:
            return None  # in a path they would be something else
        url = self.base + path.format(who=quote(subject, safe=""), feature=quote(feature, safe=""))
        try:
            reply = self._running().ask("GET", url)
        except UnreachableError as error:
            raise self._error(
                error.found, error.advice, reason="unreachable", is_general=True
            ) from None
        if reply.status in (404, 412):
            return None
        if reply.status != 200:
            raise self._refused(reply)
        try:
            return json.loads(reply.content, parse_float=Decimal, parse_constant=_no_number)
        except (ValueError, ArithmeticError, RecursionError):
            raise self._unreadable() from None

    def _running(self) -> Asker:
        with self._lock:
            if self._asker is None:
                self._open = contextlib.ExitStack()
                self._asker = self._open.enter_context(Asker(limit=self._limit, token=self._token))
            return self._asker

    def _refused(self, reply: Reply) -> NoAnswerError:
        status = reply.status
        if status in (401, 403):
            found = "does not take the key" if self._token else "asks for a key"
            return self._error(
                f"it {found} ({status})",
                "a key belongs in the environment variable OPENMETER_API_KEY",
                reason=f"status_{status}",
                is_general=True,
            )
        return self._error(
            f"it does not answer ({status})",
            "look at the server's log, and at the URL",
            reason=f"status_{status}",
            retry_after=reply.retry_after,
            is_general=status in (429, 503),
        )

    def _unreadable(self) -> NoAnswerError:
        return self._error(
            "it answers in no form known here",
            "does the URL name an OpenMeter server?",
            reason="unreadable",
        )

    def _error(
        self,
        found: str,
        advice: str,
        *,
        reason: str,
        retry_after: float | None = None,
        is_general: bool = False,
    ) -> NoAnswerError:
        return NoAnswerError(
            f"the OpenMeter server of entitlements ({self.base}): {found}; {advice}",
            reason=reason,
            retry_after=retry_after,
            is_general=is_general,
        )


def _value_of(document: Any) -> EntitlementValue:
    has_access = document["hasAccess"]
    if not isinstance(has_access, bool):
        raise TypeError("hasAccess")
    if document.get("balance") is None:
        return EntitlementValue(has_access=has_access)
    overage = _number(document.get("overage", 0))
    if overage < 0:
        raise ValueError("overage")
    return EntitlementValue(
        has_access=has_access,
        balance=_number(document["balance"]),
        usage=_number(document.get("usage", 0)),
        overage=overage,
    )


def _number(given: Any) -> Decimal:
    if isinstance(given, bool) or not isinstance(given, int | Decimal):
        raise TypeError("no number")
    return Decimal(given)


def _no_number(text: str) -> None:
    raise ValueError(text)
