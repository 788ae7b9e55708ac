"""The meters of an OpenMeter server, as it lists them.

Source: `listMeters` of `api/openapi.yaml` (v1) and `list-meters` of `api/v3/openapi.yaml`,
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

__all__ = ["METER_LISTS", "ServerMeter", "read_meters"]

METER_LISTS: Final[Mapping[str, tuple[str, Mapping[str, int]]]] = {
    "v1": ("/api/v1/meters", {"pageSize": 1000}),
    "v3": ("/api/v3/openmeter/meters", {"page[size]": 100}),
}
"""By API: the path of the list, and the parameters that ask for as many as there may be at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerMeter:
    """A meter as a server lists it; what it lists in a form we do not know is empty.

    Attributes:
        slug: Its name.
        event_type: The events it looks at.
        aggregation: In capitals.
        value_property: A JSONPath.
        since: The first moment that counts, in RFC 3339.
        id: By which the server's API calls it.
        group_by: A JSONPath by the key to group by.
    """

    slug: str
    event_type: str
    aggregation: str
    value_property: str
    since: str
    id: str = ""
    group_by: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, listed: Mapping[str, Any]) -> Self:
        """Read one of v1's, or one of v3's."""

        def text(*names: str) -> str:
            values = (listed.get(name) for name in names)
            return next((value for value in values if isinstance(value, str)), "")

        return cls(
            slug=text("slug", "key"),
            event_type=text("eventType", "event_type"),
            aggregation=text("aggregation").upper(),
            value_property=text("valueProperty", "value_property"),
            since=text("eventFrom", "events_from"),
            id=text("id"),
            group_by=_paths(listed.get("groupBy") or listed.get("dimensions")),
        )

    def __str__(self) -> str:
        of = f" {self.value_property}" if self.value_property else ""
        return f"{self.slug} ({self.aggregation}{of})"

    def sums(self, properties: Collection[str]) -> bool:
        """Whether it adds up one of these properties."""
        return self.aggregation == "SUM" and self.value_property.removeprefix("$.") in properties


def read_meters(document: Any) -> list[ServerMeter] | None:
    """The meters in a list of v1 or v3; `None` if it is no such list."""
    listed = document.get("data") if isinstance(document, dict) else document
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        return None
    return [ServerMeter.read(each) for each in listed]


def _paths(listed: object) -> dict[str, str]:
    items = listed.items() if isinstance(listed, dict) else ()
    return {key: path for key, path in items if isinstance(path, str)}
