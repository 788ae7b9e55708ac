"""Who is to be told of a call, and for whom: the handlers that hold for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from ..default_meter import get_meter
from ..installed import INSTALLED
from ..meter import Meter

__all__ = ["Account", "Teller", "tellers_of"]


class Account(NamedTuple):
    """What a handler was built with.

    Attributes:
        name: The handler's.
        subject: Who pays.
        meter: Where it records; `None` for the default meter.
        dimensions: The strings to group by.
    """

    name: str
    subject: str | None
    meter: Meter | None
    dimensions: Mapping[str, str]


class Teller(NamedTuple):
    """An account that a call is told to, and the meter that it is told to there."""

    account: Account
    meter: Meter


_GLOBAL: Final = Account("global", None, None, {})


def tellers_of(account: Account | None) -> list[Teller]:
    """Where a call that begins now is recorded.

    Args:
        account: Of the handler that holds for it, if one does.
    """
    tellers = []
    if account is not None:
        tellers.append(Teller(account, account.meter or get_meter()))
    if "llamaindex" in INSTALLED:
        meter = get_meter()
        if not tellers or tellers[0].meter is not meter:
            tellers.append(Teller(_GLOBAL, meter))
    return tellers
