"""`OpenMeterServer`, a fake OpenMeter for tests: real HTTP, strict, and breakable to order.

`python -m llm_metering.testing.server` runs one by itself, for programs in other processes and
other languages.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Literal, Self

from ._openmeter.books import Books
from ._openmeter.desk import Desk
from ._openmeter.holdings import Holdings
from ._openmeter.ingest import Answer, Event
from ._openmeter.orders import Order, Target
from ._openmeter.process import administer, serve
from ._openmeter.wire import Wire
from .faults import ClaimBeforeWrite, Fault
from .received import Received

__all__ = ["OpenMeterServer", "main"]


class OpenMeterServer(Holdings):
    """An OpenMeter server on 127.0.0.1, for as long as the `with` block lasts.

    It takes what OpenMeter's handlers take, and refuses what they refuse: a Content-Type with a
    charset (v1), a null in `data`, a time without an offset, an attribute of one's own (v3); one
    wrong event refuses its batch. It listens on loopback alone and keeps everything in memory.

    >>> with OpenMeterServer() as server:
    ...     server.sink_url.startswith("openmeter+http://127.0.0.1:")
    True

    Args:
        token: The bearer token to ask for; without one, anybody may send.
        dedupe: Whether an event is counted once, however often it comes. OpenMeter has this
            switched off unless its operator did something.
        port: Where to listen; 0 is any that is free.
        file: A file to keep what is counted in as well, so that it outlives the server.
        meters: What its lists of meters show, in the words of OpenMeter's v1: `slug`,
            `eventType`, `aggregation`, `valueProperty`, …. It answers queries of them, and its
            lists of events say which events they cannot read.
        customers: The subjects that belong to customers. As in OpenMeter, lists say of an event
            of another subject, and of one that no meter is for, that it is invalid.
        cursors: What tells events of one second apart where a list goes on: `row`, an id that
            each row has, or `id`, that of the event, as in OpenMeter before v1.0.0-beta.228. With
            `id`, of an event that was stored twice the second row is passed over where a page
            ends between them.
        clock: Seconds since 1970, for events without a time and for lists.
    """

    def __init__(
        self,
        *,
        token: str | None = None,
        dedupe: bool = True,
        port: int = 0,
        file: str | Path | None = None,
        meters: Sequence[Mapping[str, Any]] = (),
        customers: Collection[str] = (),
        cursors: Literal["row", "id"] = "row",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.port = port
        path = None if file is None else Path(file)
        books = Books(dedupe=dedupe, clock=clock, file=path, cursors=cursors)
        self._desk = Desk(books, token=token, clock=clock, meters=meters, customers=customers)
        super().__init__(books, self._desk.entitlements, self._desk.changed)
        self._wire: Wire | None = None
        self._placeholder: socket.socket | None = None

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.down()
        if self._placeholder is not None:
            self._placeholder.close()
            self._placeholder = None

    def __repr__(self) -> str:
        state = "up" if self._wire is not None else "down"
        return f"<OpenMeterServer {self.url} {state} events={len(self.events)}>"

    @property
    def url(self) -> str:
        """The server's address, the same through `down` and `up`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def sink_url(self) -> str:
        """The URL of the sink that sends here, for `Meter(sinks=[…])` or LLM_METERING_SINKS."""
        return f"openmeter+{self.url}"

    @property
    def received(self) -> list[Received]:
        """Every request so far, in the order in which they came."""
        with self._changed:
            return list(self._desk.received)

    @property
    def batches(self) -> list[list[Event]]:
        """Every batch that it answered with success, whether it kept it or not."""
        with self._changed:
            return list(self._desk.batches)

    @property
    def violations(self) -> list[str]:
        """What was wrong with requests, and which attributes v1 took and dropped.

        Refusals that were ordered are not among them, nor are wrong tokens.
        """
        with self._changed:
            return list(self._desk.violations)

    @property
    def hanging(self) -> int:
        """How many requests are held."""
        with self._changed:
            return self._desk.hanging

    def order(
        self,
        *faults: Fault,
        times: int | None = 1,
        to: Target = "ingest",
        chance: float | None = None,
        seed: int | None = None,
    ) -> None:
        """Have something go wrong.

        Orders for a number of requests follow each other; those without one apply to each
        request besides. The faults of one order come together.

        >>> from llm_metering.testing.faults import Refuse, Reset
        >>> with OpenMeterServer() as server:
        ...     server.order(Refuse(503, retry_after=1), times=2)  # the next two requests
        ...     server.order(Reset("after"))  # then one
        ...     server.order(Refuse(500), times=None, chance=0.1, seed=7)  # until clear()

        Args:
            *faults: What; see `llm_metering.testing.faults`.
            times: For how many requests; `None` is all until `clear()`.
            to: For requests that bring events (`ingest`), or that ask for a list or a meter (`list`).
            chance: How likely each of these requests is to be hit; all of them if left out.
            seed: What the chance is drawn from, so that it falls the same way each time.

        Raises:
            ValueError: If it makes no sense.
        """
        if not faults or (times is not None and times < 0):
            raise ValueError("order at least one fault, for 0 or more requests")
        if to not in ("ingest", "list"):
            raise ValueError(f"to is ingest or list, not {to!r}")
        if (chance is None) != (seed is None):
            raise ValueError("a chance needs a seed, and a seed a chance")
        if not self.dedupe and any(isinstance(fault, ClaimBeforeWrite) for fault in faults):
            raise ValueError("ClaimBeforeWrite is a fault of deduplication, which is off")
        random = None if seed is None else Random(seed)
        self._desk.order(Order(faults, to, times, 1.0 if chance is None else chance, random))

    def clear(self) -> None:
        """Forget all orders; requests that are held stay so until `release()`."""
        self._desk.clear()

    def release(self) -> int:
        """Let requests that hang go on.

        Returns:
            How many there were.
        """
        return self._desk.release()

    def wait_for(self, count: int, timeout: float = 10.0) -> bool:
        """Wait until that many events are counted.

        Args:
            count: Events.
            timeout: Seconds.

        Returns:
            Whether they came.
        """
        return self.wait_until(lambda: len(self._books.rows) >= count, timeout)

    def wait_until(self, condition: Callable[[], bool], timeout: float = 10.0) -> bool:
        """Wait until something holds; it is looked at after each request.

        Args:
            condition: Looks at this server.
            timeout: Seconds.

        Returns:
            Whether it held in time.
        """
        with self._changed:
            return self._changed.wait_for(condition, timeout)

    def down(self) -> None:
        """Go away: open connections are cut, new ones refused; the port and the counts stay.

        Requests that hang before they were looked at are given up; nothing of them is counted.
        """
        wire, self._wire = self._wire, None
        if wire is None:
            return
        self._desk.close()
        wire.end()
        # Bound and not listening, it refuses, and nobody else is given the port.
        self._placeholder = socket.socket()
        self._placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._placeholder.bind(("127.0.0.1", self.port))

    def up(self) -> None:
        """Listen, again on the same port, with all that is counted and ordered."""
        if self._wire is not None:
            return
        if self._placeholder is not None:
            self._placeholder.close()
            self._placeholder = None
        self._desk.open()
        self._wire = Wire(self.port, self._desk, self._administer)
        self.port = self._wire.port
        self._wire.begin()

    def _administer(self, method: str, path: str, body: bytes) -> Answer:
        return administer(self, method, path, body)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a server until it is interrupted; its address is the first line it prints."""
    serve(OpenMeterServer, arguments)


if __name__ == "__main__":
    main()
