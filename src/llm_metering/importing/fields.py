"""Reading one row of a provider's export: each field is known, or it counts nothing, or it is refused."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final

__all__ = ["Fields", "RowError"]

_WHOLE: Final = re.compile(r"(\d{1,18})(\.0+)?")
_COUNTING: Final = re.compile(
    r"token|request|count|(^|_)num(_|$)|amount|cost|quantity|seconds|image"
)
"""Names of columns that may count something: in a table every value is a text."""
_NOT_ZERO: Final = re.compile(r"[-+\d.,eE]*[1-9][-+\d.,eE]*")


class RowError(ValueError):
    """A row that cannot be imported; the message names the field, never more of the row."""


class Fields:
    """The fields of a row, of JSON or of a table.

    Args:
        values: They, by name; in a table an empty cell is none.
        is_table: Whether every value is a text.
    """

    def __init__(self, values: Mapping[str, Any], *, is_table: bool) -> None:
        self._values = {
            name: value
            for name, value in values.items()
            if value is not None and not (is_table and value == "")
        }
        self._is_table = is_table
        self._known: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def count(self, name: str) -> int | None:
        """A whole number; `None` if there is none.

        Raises:
            RowError: If it is something else.
        """
        self._known.add(name)
        value = self._values.get(name)
        if value is None:
            return None
        if self._is_table and (found := _WHOLE.fullmatch(value)):
            return int(found[1])
        if type(value) is int and value >= 0:
            return value
        raise RowError(f"its {name} is no whole number from 0")

    def needed(self, name: str) -> int:
        """A whole number that every such row has.

        Raises:
            RowError: If it is missing, or something else.
        """
        found = self.count(name)
        if found is None:
            raise RowError(f"it has no {name}")
        return found

    def text(self, name: str) -> str | None:
        """A text; `None` if there is none.

        Raises:
            RowError: If it is something else.
        """
        self._known.add(name)
        value = self._values.get(name)
        if isinstance(value, bool):
            return "true" if value else "false"
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise RowError(f"its {name} is no text")
        return value

    def inner(self, name: str) -> Fields:
        """An object inside the row; an empty one if there is none.

        Raises:
            RowError: If it is something else.
        """
        self._known.add(name)
        value = self._values.get(name, {})
        if not isinstance(value, Mapping):
            raise RowError(f"its {name} is no object")
        return Fields(value, is_table=False)

    def seconds(self, name: str) -> datetime:
        """A moment in seconds since 1970.

        Raises:
            RowError: If there is none.
        """
        try:
            return datetime.fromtimestamp(self.needed(name), UTC)
        except (OverflowError, ValueError, OSError):
            raise RowError(f"its {name} is no moment in seconds since 1970") from None

    def moment(self, name: str) -> datetime:
        """A moment in RFC 3339.

        Raises:
            RowError: If there is none.
        """
        text = self.text(name)
        try:
            found = datetime.fromisoformat(text or "")
            if found.tzinfo is not None:
                return found.astimezone(UTC)
        except (ValueError, OverflowError):
            pass
        raise RowError(f"its {name} is no moment in RFC 3339")

    def pass_over(self, names: Collection[str]) -> None:
        """Take fields for known, whatever is in them."""
        self._known.update(names)

    def rest(self) -> list[str]:
        """The names of what nobody asked for, which counts nothing.

        Raises:
            RowError: If it may count something, so that the row would say less than it should.
        """
        names = [name for name in self._values if name not in self._known]
        for name in names:
            if self._counts(name, self._values[name]):
                raise RowError(
                    f"its {name!r} is not known here and may count something; is there a newer "
                    "llm-metering?"
                )
        return names

    def _counts(self, name: str, value: object) -> bool:
        if isinstance(value, str):
            return bool(_COUNTING.search(name) and _NOT_ZERO.fullmatch(value))
        if isinstance(value, Mapping):
            return any(self._counts(f"{name}.{key}", each) for key, each in value.items())
        return value not in (None, False, 0, []) and value is not True
