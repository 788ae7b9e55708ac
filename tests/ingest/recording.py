"""A process that records usage, to be killed and begun again: `python -m tests.ingest.recording`.

Each line of its standard input says how many calls there are to be by then.

Each call has a number, and with it a key, a subject, a model and counts. So whoever reads the books
knows what must be in a ledger to the last token, and a number that is recorded again, since nobody
knows whether the first time came through, is one event.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from llm_metering import Meter, TokenUsage

MODELS = ("large", "small", "tiny")
SUBJECTS = 40


def call(name: str, number: int) -> tuple[str, str, TokenUsage]:
    """Subject, model and counts of a call."""
    usage = TokenUsage(input_tokens=number % 97, output_tokens=number % 13)
    return f"customer-{number % SUBJECTS}", f"{name}-{MODELS[number % len(MODELS)]}", usage


def written(books: Path) -> int:
    """How many calls are recorded for sure."""
    return books.stat().st_size if books.exists() else 0


def main(name: str, home: str, url: str, books: str) -> None:
    """Record the calls that are wanted and not in the books yet, and deliver them."""
    with Meter(home=home, sinks=[url], source="recording", ledger=False) as meter:
        book = os.open(books, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        for line in sys.stdin:
            for number in range(written(Path(books)), int(line)):
                subject, model, usage = call(name, number)
                meter.record(usage, subject, model=model, idempotency_key=f"{name}-{number}")
                os.write(book, b".")
        meter.flush(30)


if __name__ == "__main__":
    main(*sys.argv[1:])
