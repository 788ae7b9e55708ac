"""`RemoteAnswers`: an OpenMeter server, asked by the commands."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Self

from ...errors import LedgerError, MeteringError, QueryError
from ...meters import UsageQuery, UsageReport
from ...settings import Settings
from ..common import exists
from ..tally import delivery_notes

if TYPE_CHECKING:
    from ...sinks.openmeter import OpenMeterSink

__all__ = ["RemoteAnswers"]

_AT_ONCE: Final = 4
_LEDGER: Final = "ledger"


class RemoteAnswers:
    """The server of an OpenMeter sink, which answers from what it has counted.

    Nothing is sent to it but questions.

    Args:
        settings: Where the sinks are named.
        name: The sink's name; the only one there is, if absent.

    Raises:
        QueryError: If there is no such sink.
        LedgerError: If nothing was named, the ledger is off, and there is not one sink to ask.
    """

    is_there = True

    def __init__(self, settings: Settings, name: str | None) -> None:
        # Imported here, so that `--help` and a mistyped option answer at once.
        from ...remote_usage import RemoteUsage

        self._settings = settings
        self._sink = _chosen(settings, name)
        self._server = RemoteUsage(self._sink)
        self._remarks: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sink.close()

    @property
    def currency(self) -> None:
        """No server knows what usage costs."""
        return

    def take_in(self, *, whole: bool = False) -> None:
        """Do nothing: what a server lacks is sent by those who recorded it."""

    def ask(self, queries: Sequence[UsageQuery], *, main: int = 0) -> list[UsageReport]:
        # Without this answer there is nothing to show; without another, less.
        reports = {main: self._server.query(queries[main])}
        remarks: list[str] = []

        def answer(place: int) -> UsageReport:
            try:
                return reports.get(place) or self._server.query(queries[place])
            except MeteringError as error:
                remarks.append(f"{queries[place].meter.slug} is not known here: {error}")
                return UsageReport(query=queries[place])

        with ThreadPoolExecutor(_AT_ONCE) as threads:
            answers = list(threads.map(answer, range(len(queries))))
        self._remarks = sorted(set(remarks))
        return answers

    def report(self, query: UsageQuery) -> UsageReport:
        return self._server.query(query)

    def remarks(self) -> list[str]:
        from ...transport.status import home_status

        if not exists(self._settings.home):
            return self._remarks
        statistics = home_status(self._settings.home)
        notes = delivery_notes(
            statistics, url=self._sink.url, place=f"the server of sink {self._sink.name}"
        )
        return [*self._remarks, *notes]

    def state(self) -> object:
        return None


def _chosen(settings: Settings, name: str | None) -> OpenMeterSink:
    from ...opening import open_sinks
    from ...sinks.openmeter import OpenMeterSink

    # Others are not opened: one that cannot be used is no reason to ask nobody.
    urls = tuple(url for url in settings.sinks if url.startswith("openmeter+"))
    sinks = open_sinks(replace(settings, sinks=urls), (), ())
    servers = {sink.name: sink for sink in sinks if isinstance(sink, OpenMeterSink)}
    chosen = servers.pop(
        next(iter(servers)) if name is None and len(servers) == 1 else name or "", None
    )
    for sink in servers.values():
        sink.close()
    if chosen is not None:
        return chosen
    if name is None:
        raise LedgerError(
            f"the ledger is switched off ({settings.origins['ledger']}), so there is no usage to "
            "show here; ask the system the sinks deliver to"
            + (f", such as --backend {' or '.join(servers)}" if servers else "")
        )
    choices = ", ".join([*([_LEDGER] if settings.ledger else []), *servers]) or "none"
    raise QueryError(f"--backend {name!r} cannot be asked for usage; there are: {choices}")
