"""The fake server's entitlements, as OpenMeter's v1 answers for them by subject and v2 by customer.

Source: `EntitlementValue`, `EntitlementMetered` and what is beside them in `api/openapi.yaml`,
`openmeter/entitlement/driver/entitlement.go` and `openmeter/entitlement/metered/balance.go`,
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c. Of its engine it
has one grant that neither ends nor comes again; the keys of customers are those of their subjects.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal
from urllib.parse import unquote

from ..received import Received
from .ingest import Answer, problem_answer
from .items import rfc3339
from .queries import Query, answer_query
from .rows import Rows
from .values import Meter

__all__ = ["ENTITLEMENT_PATH", "Entitlement", "EntitlementKind", "Entitlements"]

ENTITLEMENT_PATH: Final = re.compile(
    r"/api/(?:v1/subjects|(?P<v2>v2)/customers)/(?P<who>[^/]+)/entitlements"
    r"(?:/(?P<feature>[^/]+)(?P<value>/value)?)?"
)

EntitlementKind = Literal["metered", "static", "boolean"]

_MINUTE: Final = 60
_ULID: Final = "01HE{:022}"
_INTERVAL: Final = 30 * 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Entitlement:
    """What a subject is entitled to.

    Attributes:
        subject: Who.
        feature: The key of what.
        kind: What kind of entitlement it is.
        meter: The slug of the meter that counts what is used, if anything is counted.
        amount: What there is to use.
        is_soft: Whether it is only counted.
        config: Of a static one.
        since: From when on usage counts, in seconds since 1970.
        number: Tells it apart.
    """

    subject: str
    feature: str
    kind: EntitlementKind = "metered"
    meter: str | None = None
    amount: float = 0.0
    is_soft: bool = False
    config: str | None = None
    since: float = 0.0
    number: int = 0


class Entitlements:
    """All entitlements of the server.

    Args:
        rows: What is stored.
        meters: All meters.
        clock: Seconds since 1970.
    """

    def __init__(self, rows: Rows, meters: Sequence[Meter], clock: Callable[[], float]) -> None:
        self._rows = rows
        self._meters = meters
        self._clock = clock
        self._all: dict[tuple[str, str], Entitlement] = {}

    def add(self, entitlement: Entitlement) -> None:
        """Put one in, in place of the one that the subject has of that feature.

        Raises:
            ValueError: If it is of a meter that there is not.
        """
        if entitlement.kind == "metered":
            self._meter(entitlement)
        self._all[entitlement.subject, entitlement.feature] = entitlement

    def remove(self, subject: str, feature: str) -> bool:
        """Take one away; whether it was there."""
        return self._all.pop((subject, feature), None) is not None

    def __len__(self) -> int:
        return len(self._all)

    def answer(self, request: Received, match: re.Match[str]) -> Answer:
        """Answer a request.

        Args:
            request: The request.
            match: Its path, as `ENTITLEMENT_PATH` takes it apart.
        """
        if request.method != "GET" or request.query:
            return problem_answer("v1", 501, "the fake server does not know that question")
        who = unquote(match["who"])
        mine = [each for each in self._all.values() if each.subject == who]
        if not mine:
            kind = "customer" if match["v2"] else "subject"
            return problem_answer("v1", 404, f"{kind} not found: {who}")
        if match["feature"] is None:
            if match["v2"]:
                return problem_answer("v1", 501, "the fake server does not know v2's list")
            return _json([self._shown(each, is_v2=False) for each in mine])
        name = unquote(match["feature"])
        found = next((each for each in mine if name in (each.feature, _id(each))), None)
        if found is None:
            return problem_answer("v1", 404, f"entitlement not found: {name}")
        if match["value"]:
            return _json(self._value(found, is_v2=bool(match["v2"])))
        if not match["v2"] and name == found.feature:
            return problem_answer("v1", 404, f"entitlement not found: {name}")  # it takes ids alone
        return _json(self._shown(found, is_v2=bool(match["v2"])))

    def _meter(self, entitlement: Entitlement) -> Meter:
        for meter in self._meters:
            if meter["slug"] == entitlement.meter:
                return meter
        raise ValueError(f"there is no meter {entitlement.meter}")

    def _value(self, entitlement: Entitlement, *, is_v2: bool) -> dict[str, Any]:
        if entitlement.kind == "boolean":
            return {"hasAccess": True}
        if entitlement.kind == "static":
            return {"hasAccess": True, "config": entitlement.config or "{}"}
        # Up to the end of the present minute, so that what came in it counts as well.
        end = (int(self._clock()) // _MINUTE + 1) * _MINUTE
        query = Query(
            start=datetime.fromtimestamp(entitlement.since, UTC),
            end=datetime.fromtimestamp(end, UTC),
            subjects=(entitlement.subject,),
        )
        results = answer_query(self._rows, self._meter(entitlement), query)
        usage = sum(each.value for each in results)
        balance = max(entitlement.amount - usage, 0)
        value: dict[str, Any] = {
            "hasAccess": entitlement.is_soft or balance > 0,
            "balance": balance,
            "usage": usage,
            "overage": max(usage - entitlement.amount, 0),
            "totalAvailableGrantAmount": entitlement.amount,
        }
        if is_v2:
            value["grantBalances"] = {_ULID.format(entitlement.number): balance}
        return value

    def _shown(self, entitlement: Entitlement, *, is_v2: bool) -> dict[str, Any]:
        since = rfc3339(entitlement.since)
        shown: dict[str, Any] = {
            "type": entitlement.kind,
            "id": _id(entitlement),
            "featureKey": entitlement.feature,
            "featureId": _ULID.format(entitlement.number),
            "createdAt": since,
            "updatedAt": since,
            "activeFrom": since,
        }
        if is_v2:
            shown["customerId"] = _ULID.format(0)
        else:
            shown["subjectKey"] = entitlement.subject
        if entitlement.kind == "static":
            shown["config"] = entitlement.config or "{}"
        if entitlement.kind == "metered":
            period = {"from": since, "to": rfc3339(entitlement.since + _INTERVAL)}
            recurs = {"interval": "P30D", "intervalISO": "P30D", "anchor": since}
            shown |= {
                "isSoftLimit": entitlement.is_soft,
                "lastReset": since,
                "measureUsageFrom": since,
                "currentUsagePeriod": period,
                "usagePeriod": recurs,
            }
        return shown


def _id(entitlement: Entitlement) -> str:
    return _ULID.format(entitlement.number)


def _json(document: Any) -> Answer:
    return Answer(200, {"Content-Type": "application/json"}, json.dumps(document).encode())
