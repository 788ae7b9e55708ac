"""Dead events put back, to be delivered to the sink that refused them.

They go into a segment of a writer that has ended, owed to that sink alone, which any process that
has the sink adopts. They were recorded before, so the sums give up as many as the segment brings
along: an event moves from dead to pending and is counted once all the while.

The order makes a crash harmless. The segment is made where nobody looks for segments; then it is
written which lines it holds; then the sums change and name the batch, which decides it; then the
lines are marked; then the segment is moved to its place. What was not decided is thrown away, what
was decided is finished, by the next one who is here.
"""

from __future__ import annotations

import copy
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from ... import system
from ...events import format_time, new_event_id
from ..counters import Counters, SinkCounts, locked_counters, read_counters
from ..frames import Kind, encode_frame, parse_frames
from ..spool import Debt, SegmentName, Spool, make_header
from .books import add_up, debts_of, segments_owed_to
from .letters import RETRYING, Letter, lines_path, mark_lines, read_letters, staged_path, under_way

__all__ = ["Retried", "finish_retries", "retry_letters"]

BATCH: Final = 5000
"""Events put back at once, in a segment of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """What became of dead events that were to be tried again.

    Attributes:
        events: Put back, by the debt's key.
        waiting: Not put back, because the event is still pending: it is offered again anyway.
        unknown: Not put back, because the home knows nothing of the sink any more.
    """

    events: dict[str, int]
    waiting: int
    unknown: int


class _Data(msgspec.Struct):
    flags: list[str] = msgspec.field(default_factory=list)


class _Flagged(msgspec.Struct):
    id: str
    data: _Data = msgspec.field(default_factory=_Data)


_flagged = msgspec.json.Decoder(_Flagged)


def finish_retries(spool: Spool) -> None:
    """Finish or undo what a retry left that was killed.

    Raises:
        TimeoutError: If somebody holds on to the counters.
    """
    folder = spool.folder / "dead"
    leftovers = any(path.suffix != ".ndjson" for path in folder.glob("*.*"))
    if not leftovers and RETRYING not in read_counters(spool).counts:
        return
    with locked_counters(spool, exclusive=True) as total:
        _finish(spool, total)


def retry_letters(
    spool: Spool,
    chosen: Callable[[Letter], bool] = lambda _: True,
    *,
    key: str | None = None,
    on_progress: Callable[[int, int], object] = lambda *_: None,
) -> Retried:
    """Put dead events back, each once, however often this is called or killed.

    Args:
        spool: The folder.
        chosen: Which ones.
        key: Of the only debt to look at.
        on_progress: Called with the events done and the events there are.

    Raises:
        OSError: If it cannot be written, or somebody holds on to the counters.
    """
    events: Counter[str] = Counter()
    waiting = unknown = 0
    # Nobody counts, folds or retries meanwhile. Shipping goes on.
    with locked_counters(spool, exclusive=True) as total:
        _finish(spool, total)
        debts = debts_of(spool, total)
        letters = [letter for letter in read_letters(spool, key).letters if chosen(letter)]
        groups: dict[tuple[str, str], list[Letter]] = defaultdict(list)
        for letter in letters:
            groups[letter.key, letter.source].append(letter)
        done = 0
        for (debt_key, source), group in groups.items():
            debt = debts.get(debt_key)
            done += len(group)
            if debt is None:
                unknown += len(group)
            else:
                pending = _pending(spool, debt)
                dead = [letter for letter in group if (source, letter.id) not in pending]
                waiting += len(group) - len(dead)
                for start in range(0, len(dead), BATCH):
                    part = dead[start : start + BATCH]
                    _put_back(spool, total, debt, source, part)
                    events[debt_key] += len(part)
            on_progress(done, len(letters))
    return Retried(events=dict(events), waiting=waiting, unknown=unknown)


def _put_back(
    spool: Spool, total: Counters, debt: Debt, source: str, letters: Sequence[Letter]
) -> None:
    batch = new_event_id()
    header = make_header(
        writer=batch, source=source, debts=[debt], created=format_time(datetime.now(UTC))
    )
    frames = (encode_frame(Kind.EVENT, letter.payload) for letter in letters)
    system.replace_file(staged_path(spool, batch), header.frame() + b"".join(frames))
    places = sorted(place for letter in letters for place in letter.places)
    system.replace_file(lines_path(spool, debt.key, batch), msgspec.json.encode(places))
    _uncount(spool, total, debt, letters)
    total.counts.setdefault(RETRYING, {})[batch] = len(letters)
    _write(spool, total)
    _finish(spool, total)


def _uncount(spool: Spool, total: Counters, debt: Debt, letters: Sequence[Letter]) -> None:
    """Take from the sums what the new segment adds to them again."""
    everything = copy.deepcopy(total)
    add_up(spool, everything)
    # A crash right after a line was written has the event offered again; if the sink took it
    # then, it is not counted as dead though its line is there, and is a new one now.
    dead = everything.sinks[debt.key].dead if debt.key in everything.sinks else 0
    again = letters[: min(len(letters), dead)]
    sink = total.sinks.setdefault(debt.key, SinkCounts(debt=debt))
    # The sums alone may fall below 0: segments that are on disk are not in them yet.
    total.recorded -= len(again)
    sink.recorded -= len(again)
    sink.dead -= len(again)
    for letter in again:
        for flag in _flagged.decode(letter.payload).data.flags:
            name = flag.partition(":")[0]
            total.flags[name] = total.flags.get(name, 0) - 1


def _finish(spool: Spool, total: Counters) -> None:
    """Carry decided batches out and throw away undecided ones, under the lock."""
    decided = total.counts.get(RETRYING, {})
    lists = list(under_way(spool))
    for path, key, batch in lists:
        # Before a sink is offered them: one that refuses them again must be written anew.
        if batch in decided and staged_path(spool, batch).exists():
            mark_lines(spool, key, msgspec.json.decode(path.read_bytes(), type=list[int]))
    for staged in list((spool.folder / "dead").glob("*.staged")):
        if staged.stem in decided:
            os.replace(staged, spool.segment_path(SegmentName(staged.stem, 0)))
        else:
            staged.unlink()
    if decided:
        system.sync_folder(spool.folder)
        system.sync_folder(spool.folder / "dead")
        del total.counts[RETRYING]
        _write(spool, total)
    for unfinished in list((spool.folder / "dead").glob("*.tmp")):
        unfinished.unlink()
    # They come last: of what is under way they say which lines are dead no more.
    for path, _, _ in lists:
        path.unlink()


def _pending(spool: Spool, debt: Debt) -> set[tuple[str, str]]:
    """Source and id of each event that the sink will be offered."""
    found: set[tuple[str, str]] = set()
    for name in segments_owed_to(spool, debt):
        header = spool.header(name)
        offset = spool.read_ack(name, debt.key).offset
        try:
            content = spool.segment_path(name).read_bytes()
        except FileNotFoundError:
            continue
        if header is not None:
            found.update((header.source, each) for each in _events_behind(content, offset))
    return found


def _events_behind(content: bytes, offset: int) -> Iterable[str]:
    for frame in parse_frames(content).frames:
        if frame.kind == Kind.EVENT and frame.end > offset:
            yield _flagged.decode(frame.payload).id


def _write(spool: Spool, total: Counters) -> None:
    system.replace_file(spool.folder / "counters.json", msgspec.json.encode(total))
