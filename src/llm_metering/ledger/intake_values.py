"""What is written and read of a topic in the ledger: values of `Intake`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = ["Bookmark", "Omission", "OmissionKind", "PartitionBooks", "Stretch", "Taken"]

OmissionKind = Literal["refused", "lost", "anew"]
"""`refused`: records that are no events; `lost`: deleted before they were read; `anew`: nobody knows
whether anything was there, since the topic was deleted and made again."""


class Bookmark(NamedTuple):
    """A record that was read, to be known again.

    Attributes:
        offset: Where it was.
        digest: Of its content.
    """

    offset: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Omission:
    """Offsets of a partition that made no events.

    Attributes:
        kind: Why.
        first: The first of them.
        end: The one behind the last; `None` if nobody knows.
        records: How many records at most; `None` if nobody knows.
        reason: In words that quote nothing of a record.
    """

    kind: OmissionKind
    first: int
    end: int | None
    records: int | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """What was read of one partition, from one position to the next.

    Attributes:
        partition: Its number.
        expected: The position that reading began at; `None` if the ledger had none.
        next_offset: The position behind it.
        bookmark: The last record that was read, if any ever was.
        events: Offset and CloudEvent of each record that may be an event.
        omissions: What was passed over, by offset.
    """

    partition: int
    expected: int | None
    next_offset: int
    bookmark: Bookmark | None = None
    events: Sequence[tuple[int, bytes]] = ()
    omissions: Sequence[Omission] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What became of records: of one stretch, or of all that were ever read of a partition.

    Attributes:
        new: Events that the ledger did not have.
        repeated: Events that it had.
        refused: Records that are no events, or that the ledger takes no event like.
        lost: Records, at most, that were deleted before they were read.
    """

    new: int = 0
    repeated: int = 0
    refused: int = 0
    lost: int = 0

    def __add__(self, other: Taken) -> Taken:
        return Taken(
            new=self.new + other.new,
            repeated=self.repeated + other.repeated,
            refused=self.refused + other.refused,
            lost=self.lost + other.lost,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionBooks:
    """What the ledger knows of a partition.

    Attributes:
        cluster: The id of the brokers' cluster.
        topic: The topic.
        partition: Its number.
        next_offset: The first offset that was not read yet.
        bookmark: The last record that was read.
        taken: What became of all that was ever read.
    """

    cluster: str
    topic: str
    partition: int
    next_offset: int
    bookmark: Bookmark | None
    taken: Taken
