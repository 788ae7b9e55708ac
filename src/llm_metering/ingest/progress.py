"""What has become of a topic's records: for a terminal, and for the report at the end."""

from __future__ import annotations

from dataclasses import dataclass

from ..ledger.intake_values import Taken

__all__ = ["PartitionProgress", "Progress"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionProgress:
    """One partition.

    Attributes:
        partition: Its number.
        next_offset: The first offset that is not in the ledger yet; `None` if none ever was.
        behind: How many offsets it has beyond; `None` if the brokers have not said so.
        taken: What became of the records that this run has read.
    """

    partition: int
    next_offset: int | None
    behind: int | None
    taken: Taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """All of them.

    Attributes:
        partitions: Each by itself.
        anew: Partitions that turned out to be of a topic that was made anew.
        trouble: What keeps it from going on right now.
        is_complete: Everything is in the ledger that the topic had at the start.
    """

    partitions: tuple[PartitionProgress, ...] = ()
    anew: int = 0
    trouble: str | None = None
    is_complete: bool = False

    @property
    def taken(self) -> Taken:
        """What became of the records of all partitions."""
        return sum((each.taken for each in self.partitions), Taken())

    @property
    def behind(self) -> int | None:
        """How many offsets there are beyond; `None` unless it is known of each partition."""
        if not self.partitions:
            return None  # the brokers have not even said which there are
        total = 0
        for each in self.partitions:
            if each.behind is None:
                return None
            total += each.behind
        return total
