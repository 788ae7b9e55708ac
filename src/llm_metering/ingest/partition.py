"""`PartitionReading`: one partition, between what the brokers handed out and what the ledger has."""

from __future__ import annotations

from ..ledger.intake_values import Bookmark, Omission, Stretch, Taken
from ..sinks._payload import UnusableEventError
from .positions import Start, digest_of
from .records import cloud_event
from .seen import End, Record

__all__ = ["PartitionReading"]


class PartitionReading:
    """Gathers what the next transaction will hold.

    Args:
        number: The partition's.

    Attributes:
        position: Where the ledger is; `None` before its first transaction.
        is_another: The partition is not the one that was read before.
        taken: What became of the records of this run.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.position: int | None = None
        self.is_another = False
        self.taken = Taken()
        self._bookmark: Bookmark | None = None
        self._check: Bookmark | None = None
        self._next = 0
        self._last: Record | None = None
        self._events: list[tuple[int, bytes]] = []
        self._omissions: list[Omission] = []
        self._at_end: int | None = None
        self._was_at_end = False

    @property
    def has_moved(self) -> bool:
        """Whether there is anything to write down.

        The first position is, also where nothing was read: what is deleted from then on is lost.
        """
        return not self.is_another and self._next != self.position

    def has_reached(self, target: int) -> bool:
        """Whether the ledger has everything before `target`, or the partition has no more."""
        return self._was_at_end or (self.position is not None and self.position >= target)

    def begin(self, position: int | None, bookmark: Bookmark | None, start: Start) -> None:
        """Go on where the ledger is."""
        self.position = position
        self.is_another = False
        self._bookmark, self._check = bookmark, start.check
        self._next = start.offset if position is None else position
        self.settle()
        # The ledger may be another one, and have less.
        self._was_at_end = False

    def restart(self, start: Start) -> Stretch:
        """The transaction that moves to a start which is not where the ledger is."""
        return Stretch(
            partition=self.number,
            expected=self.position,
            next_offset=start.offset,
            omissions=() if start.omission is None else (start.omission,),
        )

    def see(self, seen: Record | End) -> None:
        """Take note of what the brokers handed out."""
        if self.is_another:
            return
        if isinstance(seen, End):
            # Behind the last record there may be the marks of a transaction.
            self._next = max(self._next, seen.offset)
            self._at_end = seen.offset
            return
        if seen.offset < self._next:
            # Read before. The first of them is asked for, to be looked at again.
            self.is_another = self._check is not None and not _is_same(seen, self._check)
            self._check = None
            return
        # If there was a record to look at again, it is gone, as compaction takes them.
        self._check = None
        self._next = seen.offset + 1
        self._last = seen
        try:
            self._events.append((seen.offset, cloud_event(seen.value, seen.headers)))
        except UnusableEventError as error:
            self._omissions.append(
                Omission(
                    kind="refused",
                    first=seen.offset,
                    end=seen.offset + 1,
                    records=1,
                    reason=str(error),
                )
            )

    def stretch(self) -> Stretch:
        """What was seen since the last transaction."""
        last = self._last
        return Stretch(
            partition=self.number,
            expected=self.position,
            next_offset=self._next,
            bookmark=self._bookmark
            if last is None
            else Bookmark(last.offset, digest_of(last.key, last.value, last.timestamp)),
            events=self._events,
            omissions=self._omissions,
        )

    def took(self, stretch: Stretch, taken: Taken) -> None:
        """The ledger has it."""
        self.position = self._next = stretch.next_offset
        self._bookmark = stretch.bookmark
        self.taken += taken

    def settle(self) -> None:
        """Forget what was seen: it is in the ledger, or will be read again."""
        if self._at_end is not None and self.position is not None:
            self._was_at_end |= self.position >= self._at_end
        self._last, self._at_end = None, None
        self._events, self._omissions = [], []


def _is_same(record: Record, known: Bookmark) -> bool:
    digest = digest_of(record.key, record.value, record.timestamp)
    return record.offset == known.offset and digest == known.digest
