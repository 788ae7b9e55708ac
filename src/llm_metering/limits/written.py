"""Accounts as stores keep them: as JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from .account import Account, Holding
from .grants import Grant
from .mirrors import Mirror
from .recurrence import Recurrence

__all__ = ["microseconds", "moment_of", "read_account", "written"]

# Made once: `json.dumps` makes one each time. Numbers may be beyond 64 bits, which msgspec does not write.
_encode: Final = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), check_circular=False
).encode
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_MOMENTS: Final = ("created_at", "effective_at", "expires_at", "voided_at")
_SUMS: Final = ("usage", "overage", "granted", "burnt", "lapsed", "forgiven")


def microseconds(moment: datetime) -> int:
    """Microseconds from 1970 to an aware time."""
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(number: int) -> datetime:
    """The time so many microseconds behind 1970, in UTC."""
    return _EPOCH + number * _MICROSECOND


def written(account: Account) -> str:
    """An account as JSON."""
    held: dict[str, Any] = {
        "as_of": microseconds(account.as_of),
        "period": _recurrence(account.period),
        "preserves_overage": account.preserves_overage,
        "is_soft": account.is_soft,
        "announced": account.announced,
        **{name: getattr(account, name) for name in _SUMS},
        "holdings": [{**_grant(each.grant), "left": each.left} for each in account.holdings],
    }
    if account.mirror is not None:
        held["mirror"] = {
            "asked_at": microseconds(account.mirror.asked_at),
            "used": account.mirror.used,
            "recent": list(account.mirror.recent.items()),
        }
    return _encode(held)


def read_account(text: str) -> Account:
    """The account of a text that `written` made."""
    held = json.loads(text)
    return Account(
        as_of=moment_of(held["as_of"]),
        period=_read_recurrence(held["period"]),
        preserves_overage=held["preserves_overage"],
        is_soft=held["is_soft"],
        announced=held["announced"],
        holdings=[_read_holding(each) for each in held["holdings"]],
        mirror=_read_mirror(held.get("mirror")),
        **{name: held[name] for name in _SUMS},
    )


def _grant(grant: Grant) -> dict[str, Any]:
    moments = {name: getattr(grant, name) for name in _MOMENTS}
    return {
        "id": grant.id,
        "amount": grant.amount,
        "priority": grant.priority,
        **{name: None if each is None else microseconds(each) for name, each in moments.items()},
        "recurrence": _recurrence(grant.recurrence),
        "min_rollover": grant.min_rollover,
        "max_rollover": grant.max_rollover,
    }


def _read_holding(held: dict[str, Any]) -> Holding:
    left = held.pop("left")
    for name in _MOMENTS:
        held[name] = None if held[name] is None else moment_of(held[name])
    held["recurrence"] = _read_recurrence(held["recurrence"])
    return Holding(Grant(**held), left)


def _read_mirror(held: dict[str, Any] | None) -> Mirror | None:
    if held is None:
        return None
    return Mirror(
        asked_at=moment_of(held["asked_at"]), used=held["used"], recent=dict(held["recent"])
    )


def _recurrence(recurrence: Recurrence | None) -> dict[str, Any] | None:
    if recurrence is None:
        return None
    return {
        "interval": recurrence.interval,
        "anchor": microseconds(recurrence.anchor),
        "time_zone": recurrence.time_zone,
    }


def _read_recurrence(held: dict[str, Any] | None) -> Recurrence | None:
    return None if held is None else Recurrence(**{**held, "anchor": moment_of(held["anchor"])})
