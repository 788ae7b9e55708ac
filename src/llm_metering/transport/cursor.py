"""One sink's place in one segment: what to send next, and what is settled."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from .. import system
from ..sinks.base import Delivery, Envelope, SinkLimits
from .frames import Frame, Kind, parse_frames
from .spool import ACK_SIZE, Ack, Debt, SegmentName, Spool

__all__ = ["Cursor", "Item"]

_READ: Final = 1 << 20
_ALL: Final = SinkLimits(max_events=sys.maxsize, max_bytes=sys.maxsize)


class _Identified(msgspec.Struct):
    id: str


_identify = msgspec.json.Decoder(_Identified)


@dataclass(frozen=True, slots=True)
class Item:
    """An event and its place.

    Attributes:
        envelope: What the sink is given.
        end: Where the next frame begins.
    """

    envelope: Envelope
    end: int


class Cursor:
    """Reads a segment for one sink, under the lock that makes it the only one to do so.

    Attributes:
        name: The segment.
        own: Whether this process is writing it.
        settled: Events settled through this cursor.
    """

    def __init__(self, spool: Spool, name: SegmentName, descriptor: int, *, own: bool) -> None:
        self.name = name
        self.own = own
        self.settled = 0
        self._ack_descriptor = descriptor
        self._ack = Ack.decode(system.read_at(descriptor, ACK_SIZE, 0))
        self._descriptor = os.open(spool.segment_path(name), os.O_RDONLY | os.O_CLOEXEC)
        self._offset = self._ack.offset
        self._size: int | None = None
        self._ahead: list[Item] = []
        self._outcome: dict[int, bool] = {}
        self._saved = True

    @classmethod
    def acquire(
        cls, spool: Spool, name: SegmentName, debt: Debt, *, own: bool = False
    ) -> Cursor | None:
        """Take the segment for this sink.

        Returns:
            The cursor, or `None` if another process has it or the segment is gone.
        """
        descriptor = system.lock_file(spool.ack_path(name, debt.key))
        if descriptor is None:
            return None
        try:
            return cls(spool, name, descriptor, own=own)
        except BaseException as error:
            # With the descriptor the lock would be left behind, and nobody could take it again.
            system.unlock_file(descriptor)
            if isinstance(error, FileNotFoundError):
                return None
            raise

    def __repr__(self) -> str:
        return f"<Cursor {self.name} offset={self._ack.offset} ahead={len(self._ahead)}>"

    def extend(self, size: int) -> None:
        """Say how far the segment can be read: its writer may have appended."""
        self._size = size

    def peek(self, limits: SinkLimits) -> list[Item]:
        """The next events that are not settled, as one batch; empty at the end."""
        while len(self._ahead) < limits.max_events and self._fill():
            pass
        batch: list[Item] = []
        total = 0
        for item in self._ahead[: limits.max_events]:
            if item.end in self._outcome:
                continue
            total += len(item.envelope.payload) + 1
            if batch and total > limits.max_bytes:
                break
            batch.append(item)
        return batch

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
        return [item.envelope.id for item in left], self._ack.since

    def goes_on_behind(self, batch: Sequence[Item]) -> bool:
        """Whether it was the limit on its bytes that ended a batch."""
        return self._ahead[-1].end > batch[-1].end

    def settle(self, batch: Sequence[Item], delivery: Delivery) -> int:
        """Note what became of a batch and move the acknowledged offset.

        The offset stops before the first event that is to be offered again; what was settled
        behind it is remembered here and not sent again by this process.

        Returns:
            How many events the offset passed.
        """
        dead = {event_id for event_id, _ in delivery.rejected}
        for item in batch:
            if item.envelope.id in dead:
                self._outcome[item.end] = False
            elif item.envelope.id in delivery.accepted:
                self._outcome[item.end] = True
        passed = 0
        for item in self._ahead:
            if item.end not in self._outcome:
                break
            if not self._outcome.pop(item.end):
                self._ack.dead += 1
            self._ack.offset = item.end
            passed += 1
        del self._ahead[:passed]
        if self._ack.since:  # of a sink that forgets
            # What it took behind the gap, the next process will offer it again.
            behind = (end for end, taken in self._outcome.items() if taken)
            self._ack.doubtful = max(self._ack.doubtful, *behind, 0)
        if delivery.retryable:
            self._ack.retries += 1
        self._saved = False
        self.save()
        self.settled += passed
        return passed

    def give_up(self) -> int:
        """Settle all that is left as dropped; returns how many events that is."""
        left = self.peek(_ALL)
        self._ack.dropped += len(left)
        self.settle(left, Delivery.all_accepted(item.envelope for item in left))
        return len(left)

    def save(self) -> bool:
        """Write the place down, unless it is; on a full disk that may have to wait.

        Returns:
            Whether it is on disk. Until then another process would send again, under the same
            ids, what was settled.
        """
        if not self._saved:
            with contextlib.suppress(OSError):
                system.write_at(self._ack_descriptor, self._ack.encode(), 0)
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
        window = _READ
        while True:
            data = self._read(window)
            final = self._size is not None and self._offset + len(data) >= self._size
            parsed = parse_frames(data, self._offset, final=final)
            if parsed.frames or parsed.end > self._offset:
                break
            if len(data) < window:
                return False
            window *= 2  # a frame larger than the window
        self._offset = parsed.end
        self._ahead.extend(map(_item, filter(_is_event, parsed.frames)))
        return True

    def _read(self, window: int) -> bytes:
        if self._size is not None:
            window = min(window, self._size - self._offset)
        return system.read_at(self._descriptor, window, self._offset) if window > 0 else b""


def _is_event(frame: Frame) -> bool:
    return frame.kind == Kind.EVENT


def _item(frame: Frame) -> Item:
    return Item(Envelope(_identify.decode(frame.payload).id, frame.payload), frame.end)
