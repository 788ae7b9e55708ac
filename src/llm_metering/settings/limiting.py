"""The checks of the settings that say what subjects may use."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Final, Literal, NamedTuple

from ..errors import ConfigurationError
from .found import Found, one_of, refusal

__all__ = ["LIMITING", "DefaultGrantSetting", "FeatureSetting", "OnLimitStoreError"]

OnLimitStoreError = Literal["allow", "refuse"]

DEFAULT_THRESHOLDS: Final = (80, 100)
DEFAULT_OUTPUT_TOKENS: Final = 1024
DEFAULT_DEADLINE: Final = 0.5

_SWITCH: Final = {"on": "on", "true": "on", "1": "on", "off": "off", "false": "off", "0": "off"}
_GRANT: Final = re.compile(
    r"(?P<amount>[0-9][0-9_]*(?:\.[0-9]+)?) +(?P<unit>\S+)"
    r"(?: +(?:per +|a +|an +)(?P<interval>hour|day|week|month|year))?",
    re.ASCII | re.IGNORECASE,
)
_MOST: Final = 1 << 40
_UNITS: Final = ("tokens", "credits", "money")


class DefaultGrantSetting(NamedTuple):
    """What a subject is granted that has nothing.

    Attributes:
        amount: How much.
        feature: Of what.
        interval: How often it is all there again: `HOUR`, …; `None` is never.
    """

    amount: Decimal
    feature: str
    interval: str | None

    def __str__(self) -> str:
        every = "" if self.interval is None else f" per {self.interval.lower()}"
        return f"{self.amount:f} {self.feature}{every}"


class FeatureSetting(NamedTuple):
    """Something of the user's own to grant.

    Attributes:
        key: Names it.
        unit: `tokens`, `credits` or `money`.
        currency: Of money.
        providers: Whose calls count for it; all if empty.
        models: Likewise.
    """

    key: str
    unit: str
    currency: str = "USD"
    providers: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


def _limits(found: Found) -> str:
    """`auto`, `on`, `off`, or the URL of a database."""
    value = found.value
    if isinstance(value, bool):
        return "on" if value else "off"
    text = value.strip() if isinstance(value, str) else ""
    if text.lower() == "auto":
        return "auto"
    if text.lower() in _SWITCH:
        return _SWITCH[text.lower()]
    if text.startswith(("postgresql://", "postgres://")):
        return text
    # Not what was found: it may hold a password.
    raise ConfigurationError(
        "limits", f"auto, on, off or postgresql://… is wanted ({found.origin})"
    )


def _entitlements(found: Found) -> str:
    """The URL of an OpenMeter server, which is taken apart where it is used."""
    text = found.value.strip() if isinstance(found.value, str) else ""
    if text.startswith(("openmeter+https://", "openmeter+http://")):
        return text
    # Not what was found: it may hold a password.
    raise ConfigurationError("entitlements", f"openmeter+https://… is wanted ({found.origin})")


def _default_grant(found: Found) -> DefaultGrantSetting:
    text = found.value.strip() if isinstance(found.value, str) else ""
    match = _GRANT.fullmatch(text)
    if match is None:
        wanted = "an amount and a unit are wanted, such as '100000 tokens per month'"
        raise refusal("default_grant", found, wanted)
    try:
        amount = Decimal(match["amount"].replace("_", ""))
    except InvalidOperation:
        amount = Decimal(0)
    if amount <= 0:
        raise refusal("default_grant", found, "an amount above 0 is wanted")
    interval = match["interval"]
    return DefaultGrantSetting(
        amount, match["unit"], None if interval is None else interval.upper()
    )


def _number(name: str, wanted: str, least: int, found: Found) -> int:
    value = found.value
    if isinstance(value, str):
        text = value.strip().replace("_", "")
        value = int(text) if text.isascii() and text.isdecimal() else None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < _MOST:
        raise refusal(name, found, f"{wanted} is wanted, from {least}")
    return value


def _deadline(found: Found) -> float:
    value = found.value
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 60:
        raise refusal("limit_deadline", found, "seconds are wanted, above 0 and up to 60")
    return float(value)


def _thresholds(found: Found) -> tuple[int, ...]:
    value = found.value
    if isinstance(value, str):
        value = [
            int(each) if each.isdecimal() else each for each in re.split(r"[\s,%]+", value) if each
        ]
    wanted = "whole percents from 1 to 1000 are wanted, as one string or a list"
    if not isinstance(value, Iterable) or isinstance(value, Mapping | bytes):
        raise refusal("balance_thresholds", found, wanted)
    given = list(value)
    for each in given:
        if isinstance(each, bool) or not isinstance(each, int) or not 1 <= each <= 1000:
            raise refusal("balance_thresholds", found, wanted)
    return tuple(sorted(set(given)))


_FEATURE_KEYS: Final = {"unit", "currency", "providers", "models"}


def _features(found: Found) -> tuple[FeatureSetting, ...]:
    if not isinstance(found.value, Mapping):
        raise refusal("features", found, "tables by key are wanted")
    features = []
    for key, table in found.value.items():
        where = Found(table, f"{found.origin}, {key}")
        if not isinstance(key, str) or not key or key in _UNITS or not isinstance(table, Mapping):
            wanted = f"a table under a key of its own ({', '.join(_UNITS)} are built in) is wanted"
            raise refusal("features", where, wanted)
        if unknown := set(table) - _FEATURE_KEYS:
            known = ", ".join(sorted(_FEATURE_KEYS))
            raise refusal("features", where, f"there are {known}, and no {min(unknown)}")
        if table.get("unit") not in _UNITS:
            raise refusal("features", where, f"a unit is wanted, one of {', '.join(_UNITS)}")
        names: dict[str, tuple[str, ...]] = {}
        for which in ("providers", "models"):
            listed = table.get(which, ())
            if isinstance(listed, str) or not isinstance(listed, Iterable):
                raise refusal("features", where, f"{which} is a list of names")
            names[which] = tuple(listed)
            if not all(isinstance(name, str) and name for name in names[which]):
                raise refusal("features", where, f"{which} is a list of names")
        currency = table.get("currency", "USD")
        if not isinstance(currency, str):
            raise refusal("features", where, "currency is a code such as 'USD'")
        features.append(FeatureSetting(key, str(table["unit"]), currency, **names))
    return tuple(features)


LIMITING: Final[Mapping[str, Callable[[Found], object]]] = {
    "limits": _limits,
    "entitlements": _entitlements,
    "default_grant": _default_grant,
    "requests_per_minute": partial(_number, "requests_per_minute", "a number of calls", 1),
    "tokens_per_minute": partial(_number, "tokens_per_minute", "a number of tokens", 1),
    "reserved_output_tokens": partial(_number, "reserved_output_tokens", "a number of tokens", 0),
    "limit_deadline": _deadline,
    "on_limit_store_error": partial(one_of, ("allow", "refuse"), "on_limit_store_error"),
    "balance_thresholds": _thresholds,
    "features": _features,
}
"""By name, as `CHECKS` has them."""
