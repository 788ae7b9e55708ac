"""Ship what a home owes, now, and say what is left and why."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ...sinks.base import Delivery, Envelope, Sink, SinkLimits
from ..fleet import Transport
from ..policy import SinkState
from ..retention import Retention
from ..shipper import Shipper
from ..spool import Debt, Spool
from .books import Owed, read_books
from .retrying import finish_retries

__all__ = ["Drained", "drain_home"]

_DEFAULT_RETENTION: Final = Retention()
LOOK_EVERY: Final = 0.1
"""Seconds between two looks at how far it is."""
ASK_AGAIN_AFTER: Final = 1.0
"""Seconds after which what another process had in hand is looked for again."""
GRACE: Final = 1.0
"""Seconds that a delivery under way at the deadline has, and to let go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What became of one sink's debt.

    Attributes:
        owed: What is left.
        configured: Whether there is such a sink here to deliver to.
        delivered: Events it took meanwhile from this process.
        state: How it stands; `None` if it is not configured.
        reason: Why it is not well.
    """

    owed: Owed
    configured: bool
    delivered: int = 0
    state: SinkState | None = None
    reason: str | None = None


class _Watched:
    """A sink, and how much it has taken."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.delivered = 0

    # What else a sink may have is its own.
    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)

    @property
    def name(self) -> str:
        return self._sink.name

    @property
    def url(self) -> str:
        return self._sink.url

    @property
    def account(self) -> str:
        return self._sink.account

    @property
    def limits(self) -> SinkLimits:
        return self._sink.limits

    def deliver(self, batch: Sequence[Envelope], /) -> Delivery:
        delivery = self._sink.deliver(batch)
        self.delivered += len(delivery.accepted)
        return delivery

    def close(self) -> None:
        self._sink.close()


def drain_home(
    home: Path,
    *,
    source: str,
    sinks: Sequence[Sink],
    timeout: float,
    retention: Retention = _DEFAULT_RETENTION,
    on_start: Callable[[Mapping[str, Owed]], object] = lambda _: None,
    on_progress: Callable[[str, int], object] = lambda *_: None,
) -> list[Drained]:
    """Adopt what finished processes left and deliver it to `sinks`, side by side.

    A sink that was paused or waiting is tried at once. What living processes have is left to
    them; what another process has adopted is waited for.

    Args:
        home: The home; it is made if it is not there.
        source: The CloudEvents source of this process.
        sinks: Where to.
        timeout: Seconds.
        retention: What becomes of segments that every sink has had.
        on_start: Called with what is owed, by the debt's key.
        on_progress: Called with the debt's key and how many events the sink has taken so far.

    Returns:
        Each of `sinks`, and then every other one that the home still owes something to.

    Raises:
        HomeError: If the home cannot be written to.
    """
    deadline = time.monotonic() + timeout
    watched = [_Watched(sink) for sink in sinks]
    transport = Transport(home, source=source, sinks=watched, retention=retention)
    spool = Spool(home)
    finish_retries(spool)
    on_start(read_books(spool))
    workers = [
        threading.Thread(target=_drain_one, args=(transport, sink, spool, deadline), daemon=True)
        for sink in watched
    ]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers) and time.monotonic() < deadline + GRACE:
        _report(transport.shippers, watched, on_progress)
        time.sleep(LOOK_EVERY)
    _report(transport.shippers, watched, on_progress)
    standings = [shipper.standing for shipper in transport.shippers]
    transport.close(time.monotonic() + GRACE)
    books = read_books(spool)
    mine = [
        Drained(
            owed=books.get(shipper.debt.key) or _nothing(shipper.debt),
            configured=True,
            delivered=sink.delivered,
            state=standing.state,
            reason=standing.reason,
        )
        for shipper, sink, standing in zip(transport.shippers, watched, standings, strict=True)
    ]
    keys = {shipper.debt.key for shipper in transport.shippers}
    others = [Drained(owed=owed, configured=False) for owed in books.values() if owed.pending]
    return mine + [each for each in others if each.owed.debt.key not in keys]


def _drain_one(transport: Transport, sink: Sink, spool: Spool, deadline: float) -> None:
    (debt,) = (shipper.debt for shipper in transport.shippers if shipper.sink is sink)
    while transport.drain(sink, deadline=deadline) and time.monotonic() < deadline:
        owed = read_books(spool).get(debt.key)
        if owed is None or owed.pending == owed.in_living:
            return
        # Another process has adopted it, and lets go when it ends.
        time.sleep(min(ASK_AGAIN_AFTER, max(deadline - time.monotonic(), 0.0)))


def _report(
    shippers: Sequence[Shipper],
    watched: Sequence[_Watched],
    on_progress: Callable[[str, int], object],
) -> None:
    for shipper, sink in zip(shippers, watched, strict=True):
        on_progress(shipper.debt.key, sink.delivered)


def _nothing(debt: Debt) -> Owed:
    return Owed(debt=debt, pending=0, dead=0)
