"""Whether the ledger opens, is ours, and is whole."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

from ..ledger.inspection import inspect_ledger, key_ids
from .finding import Finding, failure, ok, warning

__all__ = ["check_ledger"]

CHECK_LIMIT: Final = 20.0
"""Seconds; it reads about a gigabyte in that time."""


def check_ledger(
    home: Path, *, is_on: bool, keys: Collection[bytes] = (), limit: float = CHECK_LIMIT
) -> Iterator[Finding]:
    """Look at the ledger of a home without writing to it.

    Args:
        home: The home.
        is_on: Whether usage is kept there.
        keys: What its events are signed with, by the settings.
        limit: Seconds that looking through all of it may take.
    """
    if not is_on:
        yield ok("ledger.opens", "the ledger is switched off")
        return
    path = home / "ledger.db"
    found = inspect_ledger(path, limit=limit)
    if found is None:
        yield ok("ledger.opens", "there is no ledger yet")
        return
    if found.problem is not None:
        yield failure(
            "ledger.opens",
            found.problem,
            means="the ledger takes no event, and `llm-metering usage` has no answer; events "
            "wait in the journal",
            advice=f"look at {path} with this user's rights; upgrade llm-metering if a newer one "
            "wrote it; restore it from a backup if it is damaged",
        )
        return
    yield ok(
        "ledger.opens",
        f"{found.size / (1 << 20):,.1f} MiB, schema {found.schema or 'not made yet'}, for writers "
        f"of schema {found.oldest_writer or found.supported} and later",
    )
    yield from _keys(found.key_id, keys)
    yield from _omitted(found.omitted)
    if found.damage:
        yield failure(
            "ledger.whole",
            f"PRAGMA quick_check says: {found.damage[0][:200]}",
            means="sums may be wrong, and an event may be refused or counted twice",
            advice=f"stop the applications, keep a copy of {path}, and restore a backup or make "
            "a new file with sqlite3's `.recover`",
        )
    elif not found.is_checked:
        yield warning(
            "ledger.whole",
            f"PRAGMA quick_check was not through after {limit:g} s",
            means="whether the file is whole is not known",
            advice=f"run it at a quiet time: sqlite3 {path} 'PRAGMA quick_check'",
        )
    else:
        yield ok("ledger.whole", "PRAGMA quick_check finds nothing wrong")
        yield from _sums(found.wrong_sums, limit)


def _keys(key_id: str | None, keys: Collection[bytes]) -> Iterator[Finding]:
    """Whether what is recorded here can be added to a ledger that is signed."""
    if key_id is None:
        if keys:
            yield ok("ledger.keys", "its events will be signed from the next one on")
    elif key_id in key_ids(keys):
        yield ok("ledger.keys", "its events are signed, and `llm-metering verify` looks at them")
    else:
        yield failure(
            "ledger.keys",
            f"its events are signed with a key ({key_id}) that ledger_keys does not have",
            means="what is recorded here waits in the journal, and is in no answer",
            advice="set LLM_METERING_LEDGER_KEYS as it is for those who write to this ledger",
        )


def _sums(wrong: int | None, limit: float) -> Iterator[Finding]:
    """Whether what was added up is what the events say, if there was time to count again."""
    if wrong:
        yield failure(
            "ledger.sums",
            f"{wrong} or more sums are not those of the events",
            means="`llm-metering usage` may show too much or too little",
            advice="the events are whole, and `llm-metering export` writes them; ask for help with "
            "what `Ledger.recount()` says",
        )
    elif wrong is None:
        yield ok(
            "ledger.sums",
            f"not counted again within {limit:g} s, or not made yet; `Ledger.recount()` takes its time",
        )
    else:
        yield ok("ledger.sums", "they are what the events say")


def _omitted(omitted: Mapping[str, int]) -> Iterator[Finding]:
    """What `llm-metering ingest` has passed over within a week, if it has."""
    advice = "`llm-metering ingest --show` lists the offsets and the reasons"
    if "lost" in omitted or "anew" in omitted:
        yield warning(
            "ledger.ingested",
            "within a week, records of a topic were deleted before they were read, or the topic was "
            "made anew",
            means="the usage of other hosts may be missing from this ledger",
            advice=f"{advice}; `llm-metering replay` on those hosts sends it again",
        )
    elif "refused" in omitted:
        yield warning(
            "ledger.ingested",
            "within a week, records of a topic were refused that are no events, or none that can be "
            "counted",
            means="if they were meant to be usage, it is missing from this ledger",
            advice=f"{advice}; look at them in Kafka",
        )
