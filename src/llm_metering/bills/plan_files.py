"""Plans read from a TOML file; what is wrong in it is refused with its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from ..errors import PlanError, QueryError
from ..meters import MeterDefinition, usage_query
from ..prices.toml_places import TomlFile, parse_toml, read_toml
from .books import Assignment, PlanBook
from .plans import Plan, PlanCharge, Tier
from .queries import ALL_METERS

__all__ = ["parse_plans", "read_plans"]

T = TypeVar("T")
Where = tuple[str | int, ...]

_FILE: Final = ("default_plan", "plans", "subjects")
_PLAN: Final = (
    *("name", "effective_from", "currency", "time_zone", "rounding", "minimum", "charges"),
)
_CHARGE: Final = (
    *("name", "meter", "filters", "group_by", "per", "price", "prices", "tiers", "tier_mode"),
    *("included", "markup", "fixed"),
)
_TIER: Final = ("up_to", "price", "flat_fee")
_SUBJECT: Final = ("subject", "plan", "from", "to")

_NUMBER: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?")


def read_plans(path: str | Path, meters: Mapping[str, MeterDefinition] = ALL_METERS) -> PlanBook:
    """The plans of a file.

    Args:
        path: The file.
        meters: The meters there are, by slug.

    Raises:
        PlanError: Naming the file, the line, what is wrong and what may stand there.
    """
    return _Reader(read_toml(path, raising=PlanError), meters).book()


def parse_plans(
    text: str, name: str = "plans", meters: Mapping[str, MeterDefinition] = ALL_METERS
) -> PlanBook:
    """The plans of a text.

    Args:
        text: As a file holds it.
        name: How errors call it.
        meters: The meters there are, by slug.

    Raises:
        PlanError: As in `read_plans`.
    """
    return _Reader(parse_toml(text, name, raising=PlanError), meters).book()


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of the file, and the way to it."""

    reader: _Reader
    where: Where
    values: Mapping[str, Any]

    def text(self, key: str) -> str:
        """A text that has to be there."""
        value = self.values.get(key)
        if not isinstance(value, str) or not value.strip():
            self.refuse(f"{key} is a text that is not empty", key)
        return value

    def number(self, key: str) -> Decimal | None:
        """A number, which may be written as a text; `None` if it is not there."""
        return None if key not in self.values else self.as_number(self.values[key], key)

    def as_number(self, value: object, *key: str) -> Decimal:
        """A value that is a number, or a text of one."""
        is_text = isinstance(value, str) and _NUMBER.fullmatch(value)
        if not is_text and (isinstance(value, bool) or not isinstance(value, int | Decimal)):
            self.refuse(f'{key[-1]} is a number from 0, such as "0.002"', *key)
        return Decimal(value)  # type: ignore[arg-type]

    def names(self, key: str) -> tuple[str, ...]:
        """A text or several."""
        value = self.values.get(key, [])
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
            self.refuse(f"{key} is a list of texts", key)
        return tuple(listed)

    def tables(self, key: str, known: Sequence[str]) -> list[_Table]:
        """Tables in a list."""
        value = self.values.get(key, [])
        if not isinstance(value, list):
            self.refuse(f"{key} are tables in a list", key)
        return [
            self.reader.table((*self.where, key, n), each, known) for n, each in enumerate(value)
        ]

    def given(self, *keys: str) -> dict[str, Any]:
        """Those of the keys that are there, as they are."""
        return {key: self.values[key] for key in keys if key in self.values}

    def refuse(self, message: str, *key: str | int) -> NoReturn:
        got: Any = self.values
        for each in key:
            got = got.get(each) if isinstance(got, Mapping) else None
        self.reader.refuse(
            f"{message}, got {'nothing' if got is None else repr(got)}", *self.where, *key
        )

    def make(self, make: Callable[..., T], **values: Any) -> T:
        """Make a value of it; what the value refuses is refused with its line."""
        try:
            return make(**values)
        except PlanError as error:
            self.reader.refuse(str(error), *self.where, *error.where)


class _Reader:
    def __init__(self, file: TomlFile, meters: Mapping[str, MeterDefinition]) -> None:
        self._file = file
        self._meters = meters

    def refuse(self, message: str, *where: str | int) -> NoReturn:
        raise PlanError(f"{self._file.where(*where)}: {message}", *where) from None

    def table(self, where: Where, value: object, known: Sequence[str]) -> _Table:
        """A value that is a table with known keys only."""
        if not isinstance(value, Mapping):
            self.refuse(f"a table is wanted, got {value!r}", *where)
        for key in value:
            if key not in known:
                # What is misspelt would not be charged.
                self.refuse(f"there is no {key!r} here; there are {', '.join(known)}", *where, key)
        return _Table(self, where, value)

    def book(self) -> PlanBook:
        top = self.table((), self._file.data, _FILE)
        plans = tuple(self._plan(table) for table in top.tables("plans", _PLAN))
        if not plans:
            self.refuse("there is no [[plans]]")
        rows = tuple(self._assignment(table) for table in top.tables("subjects", _SUBJECT))
        default = top.text("default_plan") if "default_plan" in top.values else None
        return top.make(PlanBook, plans=plans, assignments=rows, default_plan=default)

    def _plan(self, table: _Table) -> Plan:
        charges = tuple(self._charge(each) for each in table.tables("charges", _CHARGE))
        minimum = table.number("minimum")
        for key in ("time_zone", "rounding"):
            if key in table.values:
                table.text(key)
        return table.make(
            Plan,
            name=table.text("name"),
            effective_from=table.values.get("effective_from"),
            currency=table.text("currency"),
            minimum=minimum or Decimal(0),
            charges=charges,
            **table.given("time_zone", "rounding"),
        )

    def _charge(self, table: _Table) -> PlanCharge:
        numbers = {
            key: table.number(key)
            for key in ("per", "price", "included", "markup", "fixed")
            if key in table.values
        }
        if "tier_mode" in table.values:
            table.text("tier_mode")
        meter = table.text("meter") if "meter" in table.values else None
        filters = tuple(self._filters(table))
        group_by = table.names("group_by")
        charge = table.make(
            PlanCharge,
            name=table.text("name"),
            meter=meter,
            filters=filters,
            group_by=group_by,
            prices=self._prices(table),
            tiers=tuple(self._tier(each) for each in table.tables("tiers", _TIER)),
            **numbers,
            **table.given("tier_mode"),
        )

        if "tiers" in table.values and not charge.tiers:
            table.refuse("tiers are at least one", "tiers")
        for key in ("tier_mode", "per"):
            if key in table.values and not _uses(charge, key):
                table.refuse(f"{key} is for {_NEEDED[key]}", key)
        if meter is not None:
            self._check_meter(table, charge, meter)
        return charge

    def _check_meter(self, table: _Table, charge: PlanCharge, meter: str) -> None:
        known = [slug for slug, each in self._meters.items() if each.adds_up]
        if meter not in self._meters:
            table.refuse(f"unknown meter; there are {', '.join(known)}", "meter")
        definition = self._meters[meter]
        if not definition.adds_up:
            table.refuse(
                f"values of {meter} ({definition.aggregation}) do not add up, so they have no price; "
                f"there are {', '.join(known)}",
                "meter",
            )
        try:
            usage_query(
                definition,
                group_by=charge.group_by,
                filters=dict(charge.filters),
                meters=self._meters,
            )
        except QueryError as error:
            key = "filters" if str(error).startswith("filters") else "group_by"
            self.refuse(str(error), *table.where, key)

    def _filters(self, table: _Table) -> Iterator[tuple[str, tuple[str, ...]]]:
        value = table.values.get("filters", {})
        if not isinstance(value, Mapping):
            table.refuse("filters have a list of texts for each key", "filters")
        inner = _Table(self, (*table.where, "filters"), value)
        for key in value:
            yield key, inner.names(key)

    def _prices(self, table: _Table) -> dict[str, Decimal] | None:
        value = table.values.get("prices")
        if value is None:
            return None
        if not isinstance(value, Mapping) or not value:
            table.refuse("prices have a price for each value of group_by", "prices")
        return {key: table.as_number(price, "prices", key) for key, price in value.items()}

    def _tier(self, table: _Table) -> Tier:
        numbers = {key: table.as_number(value, key) for key, value in table.values.items()}
        if not numbers.keys() & {"price", "flat_fee"}:
            table.refuse(
                'a tier has a price, a flat_fee, or both; one that is free has price = "0"'
            )
        return table.make(Tier, **numbers)

    def _assignment(self, table: _Table) -> Assignment:
        return table.make(
            Assignment,
            subject=table.text("subject"),
            plan=table.text("plan"),
            start=table.values.get("from"),
            end=table.values.get("to"),
        )


_NEEDED: Final = {"tier_mode": "a charge with tiers", "per": "a charge with prices of units"}


def _uses(charge: PlanCharge, key: str) -> bool:
    if key == "tier_mode":
        return bool(charge.tiers)
    return charge.markup is None and charge.fixed is None
