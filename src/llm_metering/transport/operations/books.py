"""What a home owes to each sink, and who has it in hand."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import Final

from ...errors import ConfigurationError
from ..counters import Counters, locked_counters, read_counters
from ..recovery import mend_segments, settle_writer
from ..segment_counts import count_segment
from ..spool import Debt, SegmentName, Spool

__all__ = [
    "Living",
    "Owed",
    "add_up",
    "debts_of",
    "find_debt",
    "living_writers",
    "read_books",
    "segments_owed_to",
]

LOOKS: Final = 3
LOOK_AGAIN_AFTER: Final = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Living:
    """Events that are still in the segments of a process that lives: that process ships them.

    Attributes:
        writer: Its journal.
        pid: The process.
        host: Its machine.
        events: How many are pending.
    """

    writer: str
    pid: int
    host: str
    events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """One sink's account.

    Attributes:
        debt: The sink.
        pending: Events it has still to be offered.
        dead: Events it will never take.
        living: Who has some of those that are pending.
    """

    debt: Debt
    pending: int
    dead: int
    living: tuple[Living, ...] = ()

    @property
    def in_living(self) -> int:
        """How many of the pending ones are left to living processes."""
        return sum(each.events for each in self.living)


def living_writers(spool: Spool) -> set[str]:
    """The writers that live; the open calls of all others are settled by this."""
    living = {name.writer for name in spool.segments()}
    for _ in range(LOOKS):
        living = {writer for writer in living if not _is_settled(spool, writer)}
        if not living:
            break
        # A dead one looks alive while another thread or process is just settling it.
        time.sleep(LOOK_AGAIN_AFTER)
    with contextlib.suppress(OSError):  # a full disk; those wait
        mend_segments(spool)
    return living


def _is_settled(spool: Spool, writer: str) -> bool:
    with contextlib.suppress(OSError):  # a full disk; that one waits
        return settle_writer(spool, writer)
    return False


def read_books(spool: Spool) -> dict[str, Owed]:
    """What is owed to each sink that the home knows, by the debt's key.

    Calls that dead processes left open become events by this, as in any adoption.
    """
    living = living_writers(spool)
    with locked_counters(spool, exclusive=False) as total:
        owners = add_up(spool, total, living)
    return {
        key: Owed(
            debt=sink.debt,
            pending=sink.recorded - sink.acked - sink.dead - sink.dropped,
            dead=sink.dead,
            living=tuple(owners.get(key, {}).values()),
        )
        for key, sink in total.sinks.items()
    }


def add_up(
    spool: Spool, total: Counters, living: set[str] | None = None
) -> dict[str, dict[str, Living]]:
    """Add the segments on disk to the sums of the deleted ones.

    Args:
        spool: The folder.
        total: The sums; they are added to.
        living: The writers that live.

    Returns:
        By the debt's key and by writer, what living processes have.
    """
    owners: dict[str, dict[str, Living]] = {}
    folded = set(total.folded)
    for name in spool.segments():
        counts = None if str(name) in folded else count_segment(spool, name)
        if counts is None:
            continue
        total.add(counts)
        for key, settled in counts.settled.items():
            pending = counts.recorded - settled
            if pending and name.writer in (living or ()):
                known = owners.setdefault(key, {})
                before = known[name.writer].events if name.writer in known else 0
                header = counts.header
                known[name.writer] = Living(
                    writer=name.writer, pid=header.pid, host=header.host, events=before + pending
                )
    return owners


def debts_of(spool: Spool, total: Counters | None = None) -> dict[str, Debt]:
    """Every sink that the home has ever known, by its key."""
    sums = read_counters(spool) if total is None else total
    known = {key: sink.debt for key, sink in sums.sinks.items()}
    return known | {debt.key: debt for debt in spool.debts()}


def find_debt(spool: Spool, wanted: str) -> Debt:
    """The sink that a person means.

    Args:
        spool: The folder.
        wanted: A sink's name, its URL, or the key of its debt.

    Raises:
        ConfigurationError: If there is none, or more than one.
    """
    debts = debts_of(spool).values()
    found = [
        debt for debt in debts if wanted in (debt.key, debt.name, debt.url, debt.url.rstrip("/"))
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        known = ", ".join(sorted({debt.name for debt in debts})) or "none at all"
        raise ConfigurationError(
            "sink", f"nothing was ever owed to {wanted!r} here; the home knows {known}"
        )
    listed = "; ".join(
        f"{debt.key} is {debt.name} {debt.url} {debt.account}".rstrip() for debt in found
    )
    raise ConfigurationError("sink", f"several are called {wanted!r}; name one by its id: {listed}")


def segments_owed_to(spool: Spool, debt: Debt) -> list[SegmentName]:
    """The segments whose events are owed to one sink."""
    return [
        name
        for name in spool.segments()
        if (header := spool.header(name)) and any(each.key == debt.key for each in header.debts)
    ]
