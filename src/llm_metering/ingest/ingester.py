"""`Ingester`: reads a topic into a ledger until it is told to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ..ledger.intake import Intake, PositionMovedError, UnavailableError
from ..ledger.intake_values import Stretch, Taken
from .lock import alone
from .partition import PartitionReading
from .positions import Start, anew, in_words, start_of
from .progress import PartitionProgress, Progress
from .seen import BrokerError, End, OutOfRange, Record, Trouble
from .topic import TopicReader

__all__ = ["Ingester"]

BATCH: Final = 4000
"""Records of a transaction: each one ends with a sync of the medium."""

BATCH_BYTES: Final = 8 << 20
BATCH_SECONDS: Final = 0.5
"""How long a record may wait for others, as long as they keep coming."""

LOOK_FOR_PARTITIONS: Final = 30.0
SAY_EVERY: Final = 60.0
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 10.0
_BROKERS, _LEDGER, _RIVAL = "brokers", "ledger", "rival"


class Ingester:
    """Reads a topic into a ledger.

    Args:
        reader: The topic.
        intake: The ledger.
        home: Where the lock is that keeps others from reading the same topic into it.
        until_end: Stop when everything is in the ledger that the topic has at the start.
        say: Is told in one line what a person should know; each kind of trouble once a minute.
        on_progress: Is told how far it is, at least every half a second.
        look_for_partitions: Seconds between two looks for new partitions.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        reader: TopicReader,
        intake: Intake,
        *,
        home: Path,
        until_end: bool = False,
        say: Callable[[str], object],
        on_progress: Callable[[Progress], object] = lambda _: None,
        look_for_partitions: float = LOOK_FOR_PARTITIONS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._intake = intake
        self._home = home
        self._until_end = until_end
        self._say = say
        self._on_progress = on_progress
        self._look_for_partitions = look_for_partitions
        self._clock = clock
        self._readings: dict[int, PartitionReading] = {}
        self._targets: dict[int, int] | None = None
        self._anew = 0
        self._trouble: str | None = None
        self._said: dict[str, float] = {}
        self._troubled: set[str] = set()
        self._is_running = False
        self._has_read = False
        self._begin_again = True
        self._look_at = 0.0
        self._in_doubt = False
        self._ask_at, self._ask_wait = 0.0, _FIRST_WAIT

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return Progress(
            partitions=tuple(
                PartitionProgress(
                    partition=number,
                    next_offset=each.position,
                    behind=None
                    if each.position is None
                    else self._reader.behind(number, each.position),
                    taken=each.taken,
                )
                for number, each in sorted(self._readings.items())
            ),
            anew=self._anew,
            trouble=self._trouble,
            is_complete=self._is_complete(),
        )

    def run(self, stop: threading.Event) -> None:
        """Read until `stop` is set or, if that is wanted, until the end.

        What was read and is not in the ledger when it returns is read again by the next run.

        Raises:
            IngestError: If another process reads the topic into this ledger, or the cluster is
                another one suddenly.
            BrokerError: If at the start the brokers refuse us, or there is no such topic.
            LedgerError: If at the start the ledger cannot be used until a person mends it.
        """
        if self._found(stop) is None:
            return
        with alone(self._home, topic=self._reader.topic, cluster=self._reader.cluster):
            while not (stop.is_set() or (self._until_end and self._is_complete())):
                if self._begin_again:
                    self._begin(stop)
                else:
                    self._read(stop)
                    self._look(stop)
                self._on_progress(self.progress)

    def _is_complete(self) -> bool:
        if self._targets is None or self._begin_again:
            return False
        return all(self._readings[each].has_reached(at) for each, at in self._targets.items())

    def _begin(self, stop: threading.Event) -> None:
        """Look up the positions, write down what is lost, and read on from there."""
        numbers = self._found(stop)
        if numbers is None:
            return
        try:
            marks = {each: self._reader.watermarks(each) for each in numbers}
            books = self._intake.positions(self._reader.cluster, self._reader.topic)
        except BrokerError as error:
            if error.lasting and not self._is_running:
                raise
            self._wait(stop, f"waiting for the brokers: {error}")
            return
        except UnavailableError as error:
            if error.hold and not self._is_running:
                raise
            self._wait(stop, f"waiting for the ledger: {error}", kind=_LEDGER)
            return
        starts: dict[int, Start] = {}
        stretches: list[Stretch] = []
        for number in numbers:
            reading = self._readings.setdefault(number, PartitionReading(number))
            known = books.get(number)
            position = known.next_offset if known else None
            if reading.is_another and position is not None:
                start = anew(position, marks[number])
            else:
                start = start_of(position, known.bookmark if known else None, marks[number])
            starts[number] = start
            reading.begin(position, known.bookmark if known else None, start)
            if start.omission is not None:
                stretches.append(reading.restart(start))
        if stretches and not self._commit(stretches, stop):
            return
        for number, start in starts.items():
            if start.omission is not None:
                self._say(in_words(start.omission, f"partition {number} of {self._reader.topic}"))
        if self._targets is None:
            self._targets = {each: mark.high for each, mark in marks.items()}
        self._reader.assign({each: start.offset for each, start in starts.items()})
        self._is_running, self._begin_again = True, False
        self._recover()
        self._look_at = self._clock() + self._look_for_partitions

    def _found(self, stop: threading.Event) -> list[int] | None:
        """The partitions there are; `None` if the time has come to stop."""
        while not stop.is_set():
            try:
                return self._reader.partitions()
            except BrokerError as error:
                if error.lasting and not self._is_running:
                    raise
                self._wait(stop, f"waiting for the brokers: {error}")
        return None

    def _read(self, stop: threading.Event) -> None:
        """Read a batch, and take it in."""
        for seen in self._reader.read(
            most=BATCH, most_bytes=BATCH_BYTES, seconds=BATCH_SECONDS, stop=stop
        ):
            match seen:
                case Record() | End():
                    self._has_read = True
                    self._readings[seen.partition].see(seen)
                case OutOfRange():
                    self._begin_again = True
                case Trouble():
                    if seen.lasting and not self._has_read:
                        raise BrokerError(seen.reason, lasting=True)
                    self._begin_again |= seen.doubtful
                    self._miss(seen.reason)
        self._ask()
        if any(each.is_another for each in self._readings.values()):
            self._begin_again = True
        stretches = [each.stretch() for each in self._readings.values() if each.has_moved]
        if stretches and self._commit(stretches, stop):
            self._reader.show_positions({each.partition: each.next_offset for each in stretches})
        for reading in self._readings.values():
            reading.settle()

    def _ask(self) -> None:
        """Ask all partitions after trouble: what one broker sends says nothing of the others."""
        if not self._in_doubt or self._clock() < self._ask_at:
            return
        try:
            for number in self._readings:
                self._reader.watermarks(number)
        except BrokerError as error:
            self._miss(str(error))
            self._ask_at = self._clock() + self._ask_wait
            self._ask_wait = min(2 * self._ask_wait, _LONGEST_WAIT)
        else:
            self._recover()

    def _commit(self, stretches: list[Stretch], stop: threading.Event) -> bool:
        """Take it in; if the ledger does not take it now, later. Whether it is in."""
        wait = _FIRST_WAIT
        while True:
            try:
                taken = self._intake.commit(
                    self._reader.cluster, self._reader.topic, stretches, now=datetime.now(UTC)
                )
            except PositionMovedError as error:
                self._begin_again = True
                self._tell(f"reading again from where the ledger is: {error}", kind=_RIVAL)
                return False
            except UnavailableError as error:
                if error.hold and not self._is_running:
                    raise
                self._wait(stop, f"waiting for the ledger: {error}", wait, kind=_LEDGER)
                wait = min(2 * wait, _LONGEST_WAIT)
                if stop.is_set():
                    self._begin_again = True
                    return False
            else:
                self._recover(_LEDGER)
                self._book(stretches, taken)
                return True

    def _book(self, stretches: Iterable[Stretch], taken: dict[int, Taken]) -> None:
        for each in stretches:
            self._readings[each.partition].took(each, taken[each.partition])
            self._anew += sum(omission.kind == "anew" for omission in each.omissions)

    def _look(self, stop: threading.Event) -> None:
        """Look for new partitions once in a while."""
        if self._clock() < self._look_at or self._begin_again:
            return
        self._look_at = self._clock() + self._look_for_partitions
        numbers = self._found(stop)
        if numbers is not None and not set(numbers) <= set(self._readings):
            self._begin_again = True

    def _wait(
        self, stop: threading.Event, reason: str, seconds: float = 1.0, *, kind: str = _BROKERS
    ) -> None:
        self._trouble = reason
        self._tell(reason, kind=kind)
        self._on_progress(self.progress)
        stop.wait(seconds)

    def _miss(self, reason: str) -> None:
        self._in_doubt = True
        self._trouble = f"waiting for the brokers: {reason}"
        self._tell(self._trouble, kind=_BROKERS)

    def _recover(self, kind: str = _BROKERS) -> None:
        """What we waited for is there."""
        if kind == _BROKERS:
            self._in_doubt, self._ask_wait = False, _FIRST_WAIT
        if not self._in_doubt:
            self._trouble = None
        if kind in self._troubled:
            self._troubled.discard(kind)
            self._say(
                "the brokers answer again" if kind == _BROKERS else "the ledger takes events again"
            )

    def _tell(self, line: str, *, kind: str) -> None:
        now = self._clock()
        if now >= self._said.get(kind, now):
            self._said[kind] = now + SAY_EVERY
            self._troubled.add(kind)
            self._say(line)
