"""Conditions on a text, as OpenMeter's API writes them: `{"$in": ["gpt-5", "gpt-5-mini"]}`.

Source: `FilterString` of `api/openapi.yaml`, and `Validate` and `SelectWhereExpr` of
`pkg/filter/filter.go`, https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c.
A condition has one operator; an empty text is none that can be compared with. Patterns are those of
SQL's `LIKE`, as ClickHouse has them: `%` is any text, `_` any character, and a backslash takes both as
they are.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from ..errors import QueryError

__all__ = ["LEAST", "TextTest", "listed_texts", "only_operator", "text_test"]

TextTest = Callable[[str], bool]

LEAST: Final = "\x01"
"""Nothing but the empty text is less: `{"$lt": "\\u0001"}` finds what lacks a key."""

_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "$eq": operator.eq,
    "$ne": operator.ne,
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_PATTERNS: Final[Mapping[str, tuple[bool, bool]]] = {
    "$like": (True, False),
    "$nlike": (False, False),
    "$ilike": (True, True),
    "$nilike": (False, True),
}
"""Whether the pattern has to fit, and whether case is passed over."""


def text_test(condition: object, depth: int = 1, *, contains: bool = False) -> TextTest:
    """Make a function of a text of a condition; no operator at all is none that anything fails.

    >>> text_test({"$like": "gpt-%"})("gpt-5")
    True

    Args:
        condition: One operator with its operand.
        depth: How deep `$and` and `$or` may lie in each other.
        contains: Whether there is `$contains`, as in v3.

    Raises:
        QueryError: If it is no such condition.
    """
    name, wanted = only_operator(condition)
    if name is None:
        return lambda _value: True
    if name in ("$and", "$or"):
        if not depth:
            raise QueryError("filter complexity exceeds maximum allowed depth")
        tests = [text_test(each, depth - 1, contains=contains) for each in _list(wanted)]
        joined = all if name == "$and" else any
        return lambda value: joined(test(value) for test in tests)
    if name in ("$in", "$nin"):
        listed = frozenset(_text(each) for each in _list(wanted))
        return lambda value: (value in listed) == (name == "$in")
    if name == "$contains" and contains:
        part = _text(wanted).lower()
        return lambda value: part in value.lower()
    if name in _PATTERNS:
        has_to, ignores_case = _PATTERNS[name]
        fits = _pattern(_text(wanted), ignores_case=ignores_case)
        return lambda value: fits(value) == has_to
    if name not in _COMPARISONS:
        raise QueryError(f"filter is invalid: there is no operator {name}")
    compare, text = _COMPARISONS[name], _text(wanted)
    return lambda value: compare(value, text)


def listed_texts(condition: object) -> tuple[str, ...] | None:
    """The texts that fit, where a condition lists them; `""` is among them where it asks for less than `LEAST`.

    Raises:
        QueryError: As `text_test`.
    """
    name, wanted = only_operator(condition)
    if name == "$eq":
        return (_text(wanted),)
    if name == "$in":
        return tuple(dict.fromkeys(_text(each) for each in _list(wanted)))
    if name == "$lt" and wanted == LEAST:
        return ("",)
    if name == "$or":
        parts = [listed_texts(each) for each in _list(wanted)]
        if parts and None not in parts:
            return tuple(dict.fromkeys(text for part in parts for text in part or ()))
    return None


def only_operator(condition: object) -> tuple[str | None, Any]:
    """The operator of a condition, with its operand; those without one (null) count for nothing.

    Raises:
        QueryError: If it has several, or is no condition at all.
    """
    if not isinstance(condition, dict):
        raise QueryError("filter is invalid: format mismatch")
    given = [(name, operand) for name, operand in condition.items() if operand is not None]
    if len(given) > 1:
        raise QueryError("filter is invalid: multiple operators are set")
    return given[0] if given else (None, None)


def _text(wanted: object) -> str:
    if not isinstance(wanted, str) or not wanted:
        raise QueryError("filter is invalid: format mismatch")
    return wanted


def _list(wanted: object) -> list[Any]:
    if not isinstance(wanted, list):
        raise QueryError("filter is invalid: format mismatch")
    return wanted


def _pattern(text: str, *, ignores_case: bool) -> TextTest:
    """Whether all of a text fits a pattern, in at most as many steps as both are long, multiplied.

    A regular expression would take as many for each `%` in it, and who asks writes the pattern.
    """
    text = text.lower() if ignores_case else text
    # None stands for any text, "" for any character.
    wild: dict[str, str | None] = {"%": None, "_": ""}
    signs = [wild.get(sign, sign[-1]) for sign in re.findall(r"\\[%_\\]|.", text, re.DOTALL)]

    def fits(value: str) -> bool:
        value = value.lower() if ignores_case else value
        at = sign = 0
        star, behind = -1, 0
        while at < len(value):
            if sign < len(signs) and signs[sign] is None:
                star, behind = sign, at
                sign += 1
            elif sign < len(signs) and signs[sign] in ("", value[at]):
                sign += 1
                at += 1
            elif star >= 0:
                # The last `%` takes one more.
                behind += 1
                sign, at = star + 1, behind
            else:
                return False
        return all(each is None for each in signs[sign:])

    return fits
