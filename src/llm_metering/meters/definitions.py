"""`MeterDefinition`: what a meter counts; and the built-in ones.

Source: `MeterCreate` of `api/openapi.yaml` and `openmeter/meter/meter.go`,
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

from ..errors import MeterError
from ..events import EVENT_TYPE
from .paths import parse_path

__all__ = [
    "CURRENCY",
    "ESTIMATES",
    "METERS",
    "PRICED_METERS",
    "Aggregation",
    "Book",
    "MeterDefinition",
]

Aggregation = Literal["SUM", "COUNT", "UNIQUE_COUNT", "AVG", "MIN", "MAX", "LATEST"]
"""How a meter makes one value of many events."""

Book = Literal["cost", "credits"]
"""What the ledger works out of events with prices: what they cost in money, and in credits."""

ESTIMATES: Final = ("estimated", "partial")
"""The `provenance` of events of which at least one count is no provider's."""

CURRENCY: Final = "currency"
"""The key of meters with a book that tells apart what values are of; no property of events."""

_SLUG: Final = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")
_LONGEST_SLUG: Final = 64
_KEY: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterDefinition:
    """What a meter counts.

    Attributes:
        slug: Its name, as `usage(meter=…)` and OpenMeter's API take it: at most 64 lower-case
            letters, digits and single underscores.
        event_type: The CloudEvents `type` it looks at; it ignores all others.
        aggregation: What it does with the numbers.
        value_property: JSONPath in the event's `data` of the value it aggregates: a number, or a
            text that is one; of `UNIQUE_COUNT`, anything. `COUNT` has none.
        group_by: JSONPath in `data` by the key under which usage can be grouped and filtered.
        estimates: Whether events count of which some number is no provider's, but counted by us
            (`provenance` `estimated` or `partial`).
        description: One line for people.
        book: What the ledger works out with prices, instead of a value that events have: the meter is
            the sum of that, and no server knows it.

    Raises:
        MeterError: Naming the attribute and what it may be.
    """

    slug: str
    event_type: str = EVENT_TYPE
    aggregation: Aggregation = "SUM"
    value_property: str | None = None
    group_by: Mapping[str, str] = field(default_factory=dict, hash=False)
    estimates: bool = True
    description: str = ""
    book: Book | None = None

    def __post_init__(self) -> None:
        self._check_types()
        if not _SLUG.fullmatch(self.slug) or len(self.slug) > _LONGEST_SLUG:
            raise MeterError(
                f"slug {self.slug!r} is not made of at most {_LONGEST_SLUG} lower-case letters, "
                "digits and single underscores between them"
            )
        if not self.event_type:
            raise MeterError(f"meter {self.slug}: event_type is empty")
        if self.aggregation not in get_args(Aggregation):
            known = ", ".join(get_args(Aggregation))
            raise MeterError(
                f"meter {self.slug}: unknown aggregation {self.aggregation!r}; there are {known}"
            )
        if self.book is not None:
            self._check_book()
        elif (self.aggregation == "COUNT") != (self.value_property is None):
            verb = "takes no" if self.aggregation == "COUNT" else "needs a"
            raise MeterError(f"meter {self.slug}: {self.aggregation} {verb} value_property")
        for key in self.group_by:
            if not _KEY.fullmatch(key):
                raise MeterError(
                    f"meter {self.slug}: {key!r} cannot be a key of group_by; one is made of "
                    "letters, digits and underscores, and begins with no digit"
                )
        if "subject" in self.group_by:
            raise MeterError(f"meter {self.slug}: subject is a key of every meter; leave it out")
        for path in (self.value_property, *self.group_by.values()):
            try:
                if path is not None:
                    parse_path(path)
            except MeterError as error:
                raise MeterError(f"meter {self.slug}: {error}") from None
        object.__setattr__(self, "group_by", MappingProxyType(dict(self.group_by)))

    def _check_book(self) -> None:
        if self.book not in get_args(Book):
            known = ", ".join(get_args(Book))
            raise MeterError(f"meter {self.slug}: unknown book {self.book!r}; there are {known}")
        if (self.aggregation, self.event_type, self.value_property) != ("SUM", EVENT_TYPE, None):
            raise MeterError(
                f"meter {self.slug}: with a book it is the SUM of that for events of {EVENT_TYPE}, "
                "without value_property"
            )

    def _check_types(self) -> None:
        """Refuse what a program without types may hand over; `estimates="no"` would count them."""
        keys: object = self.group_by
        texts = [*keys, *keys.values()] if isinstance(keys, Mapping) else [None]
        for name, fits, wanted in (
            ("slug", isinstance(self.slug, str), "a string"),
            ("event_type", isinstance(self.event_type, str), "a string"),
            (
                "value_property",
                isinstance(self.value_property, str | None),
                "a string or None",
            ),
            ("group_by", all(isinstance(each, str) for each in texts), "JSONPaths by key"),
            ("estimates", isinstance(self.estimates, bool), "True or False"),
            ("description", isinstance(self.description, str), "a string"),
        ):
            if not fits:
                value = getattr(self, name)
                raise MeterError(f"meter {self.slug}: {wanted} is wanted for {name}, got {value!r}")

    @property
    def adds_up(self) -> bool:
        """Whether the sum over windows and groups is the value of them all."""
        return self.aggregation in ("SUM", "COUNT")

    def to_dict(self) -> dict[str, Any]:
        """The meter as OpenMeter's API takes it.

        That has no word for `estimates`: a meter that leaves them out can be grouped by
        `provenance`, so that a query of it can.

        Raises:
            MeterError: If it has a `book`, which no server knows.
        """
        if self.book is not None:
            raise MeterError(f"meter {self.slug}: no server knows what it adds up")
        told_apart = {} if self.estimates else {"provenance": "$.provenance"}
        return {
            "slug": self.slug,
            "description": self.description,
            "eventType": self.event_type,
            "aggregation": self.aggregation,
            **({"valueProperty": self.value_property} if self.value_property else {}),
            "groupBy": {**self.group_by, **told_apart},
        }


_GROUP_BY: Final = {
    key: f"$.{key}"
    for key in ("model", "provider", "operation", "framework", "provenance", "status")
}

METERS: Final[Mapping[str, MeterDefinition]] = {
    slug: MeterDefinition(
        slug=slug, value_property=value_property, group_by=_GROUP_BY, description=description
    )
    for slug, value_property, description in (
        ("tokens_total", "$.total_tokens", "Input and output tokens"),
        ("tokens_input", "$.input_tokens", "Prompt tokens, those read from a cache included"),
        ("tokens_output", "$.output_tokens", "Generated tokens, reasoning included"),
        (
            "tokens_cached",
            "$.cache_read_input_tokens",
            "Prompt tokens read from the provider's cache, part of tokens_input",
        ),
        (
            "tokens_reasoning",
            "$.reasoning_output_tokens",
            "Tokens spent on reasoning, part of tokens_output",
        ),
        # A sum, not a count: a retried batch or another kind of event is no call.
        ("calls_total", "$.calls", "LLM calls"),
    )
}
"""The built-in meters by slug. Estimates count in all of them; group by `provenance` to tell them apart."""

_BOOKS: Final[tuple[tuple[str, Book, str], ...]] = (
    ("cost_total", "cost", "What it cost by the prices there are"),
    ("credits_total", "credits", "How many credits it is worth"),
)

PRICED_METERS: Final[Mapping[str, MeterDefinition]] = {
    slug: MeterDefinition(
        slug=slug,
        book=book,
        group_by={**_GROUP_BY, CURRENCY: f"$.{CURRENCY}"},
        description=description,
    )
    for slug, book, description in _BOOKS
}
"""The built-in meters of what the ledger works out with prices, by slug; no server knows them."""
