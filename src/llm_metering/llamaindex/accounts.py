"""Who is to be told of a call, and for whom: the handlers that hold for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from ..default_meter import get_meter
from ..installed import ENFORCED, INSTALLED
from ..meter import Meter

if TYPE_CHECKING:
    from ..limits import Gate

__all__ = ["Account", "Teller", "gates_of", "tellers_of"]


class Account(NamedTuple):
    """What a handler was built with.

    Attributes:
        name: The handler's.
        subject: Who pays.
        meter: Where it records; `None` for the default meter.
        dimensions: The strings to group by.
        enforce: Whether calls are held to balances.
    """

    name: str
    subject: str | None
    meter: Meter | None
    dimensions: Mapping[str, str]
    enforce: bool = False


class Teller(NamedTuple):
    """An account that a call is told to, and the meter that it is told to there.

    Attributes:
        account: It.
        meter: The meter.
        gate: What holds the call to a balance there, if anything does.
    """

    account: Account
    meter: Meter
    gate: Gate | None


_GLOBAL: Final = Account("global", None, None, {})


def tellers_of(account: Account | None) -> list[Teller]:
    """Where a call that begins now is recorded.

    Args:
        account: Of the handler that holds for it, if one does.
    """
    is_global = "llamaindex" in INSTALLED
    own = None if account is None else account.meter or get_meter()
    everybodys = get_meter() if is_global else None
    tellers = []
    if account is not None and own is not None:
        # Where both are one meter, what either of them says of it holds.
        enforce = account.enforce or (own is everybodys and "llamaindex" in ENFORCED)
        tellers.append(Teller(account, own, _gate_of(own, enforce=enforce)))
    if everybodys is not None and everybodys is not own:
        enforce = "llamaindex" in ENFORCED
        tellers.append(Teller(_GLOBAL, everybodys, _gate_of(everybodys, enforce=enforce)))
    return tellers


def gates_of(tellers: Iterable[Teller]) -> tuple[Gate, ...]:
    """What a call has to pass before it is made."""
    gates = [teller.gate for teller in tellers if teller.gate is not None]
    return tuple(dict.fromkeys(gates)) if gates else ()


def _gate_of(meter: Meter, *, enforce: bool) -> Gate | None:
    return meter.gate if enforce or meter.settings.enforce else None
