"""What signatures cost a ledger: when events come in, and when all of it is verified.

1. in: the same events are delivered to a ledger with a key and to one without, in turn, in an order that
   is shuffled anew for each 20,000 events.
2. verify: `Ledger.verify` of the signed one, which looks at every signature and counts all sums again, in
   turn with a bare reader: a loop of `sqlite3` that fetches each event with its signature and works out
   the SHA-256 of its body, and does nothing else.

    python benchmarks/ledger_signed.py [EVENTS] [--rounds N] [--days D] [--subjects N] [--models N]

The exit code is 1 if the ledger is not found intact, or one changed byte in it is not found.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sqlite3
import statistics
import tempfile
import time
from contextlib import closing
from itertools import islice
from pathlib import Path

import machine
from ledger_ingest import BATCH, DAYS, EVENTS, MODELS, SUBJECTS, TURN, Traffic

from llm_metering.ledger import Ledger
from llm_metering.sinks import Envelope

KEY = b"a key of at least thirty-two bytes"


def deliver(ledger: Ledger, batches: list[list[Envelope]]) -> float:
    """Seconds to take them in."""
    begun = time.perf_counter()
    for batch in batches:
        assert len(ledger.deliver(batch).accepted) == len(batch)
    return time.perf_counter() - begun


def read(path: Path) -> float:
    """Seconds to read all, with a digest of each body."""
    begun = time.perf_counter()
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT events.*, links.mac FROM events JOIN links ON place = events.rowid"
        )
        for row in rows:
            hashlib.sha256(row[-3].encode()).digest()
    return time.perf_counter() - begun


def change_one_byte(path: Path) -> int:
    """In the middle of the file's body of an event, whose place it is."""
    with closing(sqlite3.connect(path)) as connection:
        (last,) = connection.execute("SELECT max(rowid) FROM events").fetchone()
        place = random.Random(3).randrange(1, last)
        connection.execute(
            "UPDATE events SET payload = replace(payload, 'completed', 'complated') WHERE rowid = ?",
            (place,),
        )
        connection.commit()
    return place


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("events", nargs="?", type=int, default=EVENTS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--days", type=float, default=DAYS)
    parser.add_argument("--subjects", type=int, default=SUBJECTS)
    parser.add_argument("--models", type=int, default=MODELS)
    parser.add_argument("--random-ids", action="store_true")
    asked = parser.parse_args()
    print(machine.describe())
    print(f"SQLite {sqlite3.sqlite_version}; {asked.events:,} events")
    with tempfile.TemporaryDirectory() as folder:
        signed, plain = Path(folder) / "signed.db", Path(folder) / "plain.db"
        ledgers = {"signed": Ledger(signed, keys=[KEY]), "plain": Ledger(plain)}
        times: dict[str, list[float]] = {name: [] for name in ledgers}
        envelopes = iter(Traffic(asked))
        while turn := list(islice(envelopes, TURN)):
            batches = [turn[start : start + BATCH] for start in range(0, len(turn), BATCH)]
            for name in random.sample(list(ledgers), 2):
                times[name].append(deliver(ledgers[name], batches) / len(turn))
        for name, ledger in ledgers.items():
            ledger.close()
            rate = 1 / statistics.median(times[name])
            size = Path(ledger.path).stat().st_size / asked.events
            print(f"in, {name}: {rate:,.0f} events/s, {size:.0f} bytes of the file each")
        ratio = statistics.median(
            one / other for one, other in zip(times["signed"], times["plain"], strict=True)
        )
        print(f"in: {ratio:.2f} times as long as without signatures")

        verified, bare, ratios = [], [], []
        is_right = True
        for _ in range(asked.rounds):
            begun = time.perf_counter()
            found = Ledger(signed, keys=[KEY]).verify()
            verified.append(time.perf_counter() - begun)
            bare.append(read(signed))
            ratios.append(verified[-1] / bare[-1])
            is_right &= found.is_intact and found.signed == asked.events
        print(
            f"verify: {statistics.median(verified):.1f} s ({min(verified):.1f} to "
            f"{max(verified):.1f}), bare reading {statistics.median(bare):.1f} s: "
            f"{statistics.median(ratios):.2f} times as long"
        )
        place = change_one_byte(signed)
        begun = time.perf_counter()
        found = Ledger(signed, keys=[KEY]).verify()
        is_right &= [(each.kind, each.first) for each in found.tampering] == [("changed", place)]
        print(
            f"one changed byte, of event {place:,}: {'found' if is_right else 'NOT FOUND'} "
            f"after {time.perf_counter() - begun:.1f} s"
        )
    return 0 if is_right else 1


if __name__ == "__main__":
    raise SystemExit(main())
