"""How the fake server's lists show a row.

Source: `convertEvent` of `openmeter/meterevent/httphandler/mapping.go` (v1 and v2) and
`api/v3/handlers/events/convert.go`,
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from .rows import Row
from .values import Meter, problems_of

__all__ = ["Shown", "rfc3339"]


class Shown:
    """Rows as the lists show them, with what is wrong with an event.

    Args:
        meters: All meters; an event that none of them fits is said to be invalid.
        customers: The subjects of customers; an event of another one is said to be invalid.
    """

    def __init__(self, meters: Sequence[Meter], customers: Collection[str]) -> None:
        self._meters = meters
        # Ids are ULIDs, whose letters leave out I, L, O and U.
        self._customers = {key: f"01HC{number:022}" for number, key in enumerate(customers)}

    def v1(self, row: Row) -> dict[str, Any]:
        """A row as v1 and v2 show it."""
        item: dict[str, Any] = {
            "event": _event(row),
            "ingestedAt": rfc3339(row.ingested_at),
            "storedAt": rfc3339(row.stored_at),
        }
        customer = self._customers.get(row.event["subject"])
        if customer is not None:
            item["customerId"] = customer
        if problems := self._problems(row):
            item["validationError"] = "\n".join(problems)
        return item

    def v3(self, row: Row) -> dict[str, Any]:
        """A row as v3 shows it."""
        item: dict[str, Any] = {
            "event": _event(row),
            "ingested_at": rfc3339(row.ingested_at),
            "stored_at": rfc3339(row.stored_at),
        }
        customer = self._customers.get(row.event["subject"])
        if customer is not None:
            item["customer"] = {"id": customer}
        if problems := self._problems(row):
            item["validation_errors"] = [
                {"code": "validation_error", "message": problem} for problem in problems
            ]
        return item

    def _problems(self, row: Row) -> list[str]:
        has_customer = row.event["subject"] in self._customers
        return problems_of(row.event, self._meters, has_customer=has_customer)


def rfc3339(seconds: float) -> str:
    """A time in UTC and in whole seconds."""
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")


def _event(row: Row) -> dict[str, Any]:
    kept = row.event
    event = {
        "specversion": "1.0",
        "id": kept["id"],
        "source": kept["source"],
        "type": kept["type"],
        "subject": kept["subject"],
        "time": rfc3339(row.time),
    }
    if kept.get("data") is not None:
        event |= {"datacontenttype": "application/json", "data": kept["data"]}
    return event
