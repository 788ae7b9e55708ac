"""The filters of OpenMeter's list of events (API v2): JSON like `{"id": {"$in": ["…"]}}`.

Source: https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c
(`openmeter/meterevent/service.go`, `pkg/filter/filter.go`): one operator each, `$and` and `$or`
one level deep. Patterns (`$like` and its kin) and customers are not known here.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from ._books import Row, time_of

__all__ = ["UnknownError", "moment", "row_filter"]

Test = Callable[[Any], bool]

_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "$eq": operator.eq,
    "$ne": operator.ne,
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_OF_TIMES: Final = frozenset(["$gt", "$gte", "$lt", "$lte"])


class UnknownError(Exception):
    """OpenMeter may know it; the fake server does not."""


def row_filter(wanted: object) -> Callable[[Row], bool]:
    """Make a function of a row of what a client asks for.

    Raises:
        ValueError: If OpenMeter would refuse it.
        UnknownError: If only this server does.
    """
    if not isinstance(wanted, dict):
        raise ValueError("filter must be an object")  # noqa: TRY004 - a client's mistake
    tests: list[tuple[Callable[[Row], Any], Test]] = []
    for field, condition in wanted.items():
        if field in ("id", "source", "subject", "type"):
            tests.append((_attribute(field), _text_test(condition)))
        elif field == "time":
            tests.append((lambda row: time_of(row.event), _time_test(condition)))
        elif field == "ingestedAt":
            tests.append((lambda row: int(row.ingested_at), _time_test(condition)))
        else:
            raise UnknownError(f"the filter {field}")
    return lambda row: all(test(value_of(row)) for value_of, test in tests)


def moment(text: object) -> float:
    """The seconds since 1970 of a time in RFC 3339.

    Raises:
        ValueError: If it is none.
    """
    time = datetime.fromisoformat(str(text))
    if time.tzinfo is None:
        raise ValueError(f"{text} names no zone")
    return time.timestamp()


def _attribute(name: str) -> Callable[[Row], Any]:
    return lambda row: row.event[name]


def _text_test(condition: object, depth: int = 1) -> Test:
    name, wanted = _operator(condition)
    if name is None:
        return lambda _value: True
    if name in ("$and", "$or"):
        if not depth:
            raise ValueError("filter complexity exceeds maximum allowed depth")
        tests = [_text_test(each, depth - 1) for each in _list(wanted)]
        joined = all if name == "$and" else any
        return lambda value: joined(test(value) for test in tests)
    if name in ("$in", "$nin"):
        listed = [_text(each) for each in _list(wanted)]
        return lambda value: (value in listed) == (name == "$in")
    if name not in _COMPARISONS:
        raise UnknownError(f"the operator {name}")
    compare, text = _COMPARISONS[name], _text(wanted)
    return lambda value: compare(value, text)


def _time_test(condition: object) -> Test:
    name, wanted = _operator(condition)
    if name is None:
        return lambda _value: True
    if name not in _OF_TIMES:
        raise UnknownError(f"the operator {name} for times")
    compare, seconds = _COMPARISONS[name], moment(wanted)
    return lambda value: compare(value, seconds)


def _operator(condition: object) -> tuple[str | None, Any]:
    if not isinstance(condition, dict):
        raise ValueError("filter is invalid: format mismatch")  # noqa: TRY004 - as above
    if len(condition) > 1:
        raise ValueError("filter is invalid: multiple operators are set")
    return next(iter(condition.items()), (None, None))


def _text(wanted: object) -> str:
    if not isinstance(wanted, str) or not wanted:
        raise ValueError("filter is invalid: format mismatch")
    return wanted


def _list(wanted: object) -> list[Any]:
    if not isinstance(wanted, list):
        raise ValueError("filter is invalid: format mismatch")  # noqa: TRY004 - as above
    return wanted
