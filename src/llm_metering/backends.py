"""Who answers for usage: the ledger, or the OpenMeter server of a sink."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, TypeAlias

from .errors import LedgerError, QueryError, RemoteUsageError
from .sinks.base import Sink

if TYPE_CHECKING:
    from .ledger import Ledger
    from .meters import Book, UsageQuery, UsageReport
    from .remote_usage import RemoteUsage

__all__ = ["PATIENCE", "Backends"]

PATIENCE: Final = 10.0
"""Seconds in which a back end should have what was recorded."""

_IMPATIENCE: Final = 1.0
_LEDGER: Final = "ledger"

_Ship: TypeAlias = Callable[[Sink, float], bool]
_Price: TypeAlias = "Callable[[Ledger, Book], None]"


class Backends:
    """The back ends of a meter.

    Args:
        ledger: The ledger, if it is on.
        sinks: All sinks; those that send to OpenMeter can be asked.
        ship: Brings a sink what was recorded, in so many seconds; whether nothing was left.
        price: Prices what the ledger has, before it is asked for that.
    """

    def __init__(
        self, ledger: Ledger | None, sinks: Iterable[Sink], ship: _Ship, price: _Price
    ) -> None:
        self._ledger = ledger
        self._sinks = tuple(sinks)
        self._ship = ship
        self._price = price
        self._remote: dict[str, RemoteUsage] = {}

    def usage(
        self, query: UsageQuery, name: str | None = None, *, allow_incomplete: bool = False
    ) -> UsageReport:
        """Answer a question, everything that this process recorded so far included.

        Args:
            query: The question.
            name: `ledger`, or the name of an OpenMeter sink; the ledger if left out, and without
                one the only such sink.
            allow_incomplete: Answer even if the back end did not take what was recorded.

        Raises:
            QueryError: If there is no such back end, or it cannot answer that.
            LedgerError: If the ledger is switched off and nothing else can be asked, or it does
                not take what was recorded.
            RemoteUsageError: If the server does not take what was recorded, or gives no answer.
        """
        sink = self._chosen(name)
        complete = self._ship(sink, _IMPATIENCE if allow_incomplete else PATIENCE)
        if not complete and not allow_incomplete:
            error = LedgerError if sink is self._ledger else RemoteUsageError
            raise error(
                f"the {sink.name if sink is self._ledger else f'server of sink {sink.name}'} has not "
                "taken all that was recorded, so usage would be short; `llm-metering status` says "
                "why; allow_incomplete=True shows what there is"
            )
        if sink is self._ledger and self._ledger is not None:
            if query.meter.book is not None:
                try:
                    self._price(self._ledger, query.meter.book)
                except LedgerError:
                    # What has not been priced is told of in the report.
                    if not allow_incomplete:
                        raise
            return self._ledger.query(query)
        return self._remote[sink.name].query(query)

    def _chosen(self, name: str | None) -> Sink:
        if self._ledger is not None and name in (None, _LEDGER):
            return self._ledger
        # Not before: who asks the ledger alone needs no HTTP client.
        from .remote_usage import RemoteUsage
        from .sinks.openmeter import OpenMeterSink

        servers = {sink.name: sink for sink in self._sinks if isinstance(sink, OpenMeterSink)}
        if name is None and len(servers) == 1:
            [name] = servers
        if name in servers:
            if name not in self._remote:
                self._remote[name] = RemoteUsage(servers[name])
            return servers[name]
        choices = ", ".join([*([_LEDGER] if self._ledger is not None else []), *servers])
        if name is None or name == _LEDGER:
            raise LedgerError(
                "the ledger is switched off; usage is kept where your sinks keep it, "
                + (
                    f"and backend= can be {choices}"
                    if servers
                    else "and none of them is an OpenMeter server, which could be asked"
                )
            )
        raise QueryError(
            f"backend {name!r} cannot be asked for usage; "
            + (f"there are {choices}" if choices else "there is no ledger and no OpenMeter sink")
        )
