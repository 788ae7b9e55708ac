"""One sink's place in one segment: what to send next, and what is settled."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Final

from .. import system
from ..sinks.base import Delivery, SinkLimits
from .frames import read_frames
from .payloads import Item
from .spool import ACK_SIZE, Ack, Debt, SegmentName, Spool
from .tally import Tally

__all__ = ["Cursor", "Item"]

_ALL: Final = SinkLimits(max_events=sys.maxsize, max_bytes=sys.maxsize)


class Cursor:
    """Reads a segment for one sink, under the lock that makes it the only one to do so.

    Attributes:
        name: The segment.
        own: Whether this process is writing it.
        settled: Events settled through this cursor.
    """

    def __init__(
        self, spool: Spool, name: SegmentName, descriptor: int, *, place: str, own: bool
    ) -> None:
        self.name = name
        self.own = own
        self.settled = 0
        self._ack_descriptor = descriptor
        self._place = place
        self._ack = Ack.decode(system.read_at(descriptor, ACK_SIZE, 0), place)
        self._descriptor = os.open(spool.segment_path(name), os.O_RDONLY | os.O_CLOEXEC)
        self._offset = self._ack.offset
        self._size: int | None = None
        # What was read and is not settled, and what is settled behind the first of that: by its
        # end, whether the sink took it.
        self._ahead: list[Item] = []
        self._behind: dict[int, bool] = {}
        self._saved = True
        self._tally = Tally()
        self._saw_all = self._offset == 0

    @classmethod
    def acquire(
        cls, spool: Spool, name: SegmentName, debt: Debt, *, own: bool = False
    ) -> Cursor | None:
        """Take the segment for this sink.

        Returns:
            The cursor, or `None` if another process has it or the segment is gone.
        """
        path = spool.ack_path(name, debt.key)
        descriptor = system.lock_file(path)
        if descriptor is None:
            return None
        try:
            return cls(spool, name, descriptor, place=path.name, own=own)
        except BaseException as error:
            # With the descriptor the lock would be left behind, and nobody could take it again.
            system.unlock_file(descriptor)
            if isinstance(error, FileNotFoundError):
                return None
            raise

    def __repr__(self) -> str:
        return f"<Cursor {self.name} offset={self._ack.offset} ahead={len(self._ahead)}>"

    @property
    def tally(self) -> Tally | None:
        """What the segment holds, as far as it was read; `None` if that was not from its start."""
        return self._tally if self._saw_all else None

    @property
    def size_on_disk(self) -> int:
        """How large the segment is, which nobody writes any more."""
        return os.fstat(self._descriptor).st_size

    def extend(self, size: int) -> None:
        """Say how far the segment can be read: its writer may have appended."""
        self._size = size

    def peek(self, limits: SinkLimits) -> list[Item]:
        """The next events that are not settled, as one batch; empty at the end."""
        self.has_ready(limits.max_events)
        batch = self._ahead[: limits.max_events]
        total = len(batch) + sum([len(item.payload) for item in batch])
        while total > limits.max_bytes and len(batch) > 1:
            total -= len(batch.pop().payload) + 1
        return batch

    def has_ready(self, count: int) -> bool:
        """Whether there are so many that are not settled, as far as the segment is known."""
        while len(self._ahead) < count and self._fill():
            pass
        return len(self._ahead) >= count

    def doubt(self, batch: Sequence[Item], *, now: float) -> None:
        """Write down, before a batch is sent, that the sink may come to have it without our knowing.

        Args:
            batch: What is about to be sent.
            now: Seconds since 1970.
        """
        if self._ack.doubtful <= self._ack.offset:
            self._ack.since = int(now)
        if self._ack.doubtful < batch[-1].end:
            self._ack.doubtful = batch[-1].end
            self._saved = False
            self.save()

    def believe(self, doubtful: int) -> None:
        """Take back a doubt: the sink has answered for what was sent.

        Args:
            doubtful: What `doubtful` was before it.
        """
        self._ack.doubtful = doubtful
        self._saved = False

    @property
    def doubtful(self) -> int:
        """Up to where the sink may have events that it did not answer for."""
        return self._ack.doubtful

    def in_doubt(self) -> tuple[list[str], int]:
        """The events that the sink may have, as those knew who sent them, and since when."""
        if self._ack.doubtful <= self._ack.offset:
            return [], 0
        left = [item for item in self.peek(_ALL) if item.end <= self._ack.doubtful]
        return [item.id for item in left], self._ack.since

    def goes_on_behind(self, batch: Sequence[Item]) -> bool:
        """Whether it was the limit on its bytes that ended a batch."""
        return self._ahead[-1].end > batch[-1].end

    def up_to(self, batch: Sequence[Item]) -> list[Item]:
        """What is not settled, up to the end of a batch."""
        return [item for item in self._ahead if item.end <= batch[-1].end]

    def settle(self, batch: Sequence[Item], delivery: Delivery) -> int:
        """Note what became of a batch and move the acknowledged offset.

        The offset stops before the first event that is to be offered again; what was settled
        behind it is remembered here and not sent again by this process.

        Returns:
            How many events the offset passed.
        """
        if delivery.takes_all_of(batch) and self._is_next(batch):
            # As good as always, and nothing has to be looked up for it.
            return self._pass_next(batch)
        dead = {rejected for rejected, _ in delivery.rejected}
        known = delivery.accepted | dead if dead else delivery.accepted
        settled = {item.end: item.id not in dead for item in batch if item.id in known}
        passed = self._pass(settled) if settled else 0
        if self._ack.since and self._behind:  # of a sink that forgets
            # What it took behind the gap, the next process will offer it again.
            behind = (end for end, taken in self._behind.items() if taken)
            self._ack.doubtful = max(self._ack.doubtful, *behind, 0)
        if delivery.retryable:
            self._ack.retries += 1
        self._saved = False
        self.save()
        self.settled += passed
        return passed

    def _is_next(self, batch: Sequence[Item]) -> bool:
        ahead = self._ahead
        return (
            not self._behind
            and 0 < len(batch) <= len(ahead)
            and ahead[0].end == batch[0].end
            and ahead[len(batch) - 1].end == batch[-1].end
        )

    def _pass_next(self, batch: Sequence[Item]) -> int:
        passed = len(batch)
        del self._ahead[:passed]
        self._ack.offset = batch[-1].end
        self._saved = False
        self.save()
        self.settled += passed
        return passed

    def give_up(self) -> list[str]:
        """Settle all that is left as dropped; returns the ids of these events."""
        left = self.peek(_ALL)
        self._ack.dropped += len(left)
        self.settle(left, Delivery.all_accepted(left))
        return [item.id for item in left]

    def _pass(self, settled: dict[int, bool]) -> int:
        """Take what is settled from what is ahead, and move the offset as far as that lets it."""
        first, last, count = self._ahead[0].end, max(settled), len(settled)
        if self._ahead[count - 1].end == last and not self._behind:
            del self._ahead[:count]
        else:
            self._ahead = [item for item in self._ahead if item.end not in settled]
            self._behind |= settled
            if first not in settled:
                return 0
            front = self._ahead[0].end if self._ahead else self._offset + 1
            settled = {end: taken for end, taken in self._behind.items() if end < front}
            self._behind = {end: taken for end, taken in self._behind.items() if end > front}
            last = max(settled)
        self._ack.offset = last
        self._ack.dead += len(settled) - sum(settled.values())
        return len(settled)

    def save(self) -> bool:
        """Write the place down, unless it is; on a full disk that may have to wait.

        Returns:
            Whether it is on disk. Until then another process would send again, under the same
            ids, what was settled.
        """
        if not self._saved:
            with contextlib.suppress(OSError):
                system.write_at(self._ack_descriptor, self._ack.encode(self._place), 0)
                self._saved = True
        return self._saved

    def close(self) -> None:
        """Let go of the segment."""
        os.close(self._descriptor)
        system.unlock_file(self._ack_descriptor)

    def disown(self) -> None:
        """Close the files in a forked child; the segment stays the parent's."""
        os.close(self._descriptor)
        os.close(self._ack_descriptor)

    def _fill(self) -> bool:
        """Read on; returns whether there was anything."""
        parsed = read_frames(self._read, self._offset, self._size)
        if not parsed.frames and parsed.end == self._offset:
            return False
        self._offset = parsed.end
        self._ahead += self._tally.take(parsed)
        return True

    def _read(self, size: int, offset: int) -> bytes:
        return system.read_at(self._descriptor, size, offset)
