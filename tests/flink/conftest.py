"""What a test of a statement gets: servers, a bench between them, and a way to start Flink."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from types import MappingProxyType

import pytest

from llm_metering.ledger import Ledger

from .bench import Bench
from .servers import Job, Servers

# A program for another process, which pyflink's own import would end with a warning.
collect_ignore = ["run_statements.py"]

PAGES = Path(__file__).parents[2] / "docs" / "how-to" / "stream-processing"
ADDRESSES = ("kafka:9092", "postgres:5432")
"""The addresses in the statements, which alone are replaced."""

Start = Callable[..., Job]


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    """Kafka and PostgreSQL, empty."""
    with Servers().running(tmp_path / "servers") as running:
        yield running


@pytest.fixture
def bench(servers: Servers, tmp_path: Path) -> Iterator[Bench]:
    """A topic and a ledger that get the same events."""
    made = Bench(servers, Ledger(tmp_path / "ledger.db"))
    yield made
    made.close()


@pytest.fixture
def start(servers: Servers, tmp_path: Path) -> Iterator[Start]:
    """Start the documentation's statements, with the table of another file and other values."""
    jobs: list[Job] = []
    numbers = count()

    def begin(
        *,
        table: str | None = None,
        recover_from: Path | None = None,
        instead: Mapping[str, str] = MappingProxyType({}),
    ) -> Job:
        number = next(numbers)
        text = (PAGES / "usage_by_hour.sql").read_text("utf-8")
        if table is not None:
            other = (PAGES / table).read_text("utf-8")
            found = re.compile(r"^CREATE TABLE llm_usage_by_hour .*?;\n", re.DOTALL | re.MULTILINE)
            text, replaced = found.subn(lambda _: other, text)
            assert replaced == 1
        for address, own in zip(ADDRESSES, (servers.kafka, servers.postgres), strict=True):
            text = text.replace(address, own)
        for old, new in instead.items():
            assert text.count(old) == 1
            text = text.replace(old, new)
        file = tmp_path / f"statements-{number}.sql"
        file.write_text(text, "utf-8")
        jobs.append(Job(file, tmp_path / f"job-{number}", recover_from=recover_from))
        return jobs[-1]

    yield begin
    for job in jobs:
        job.kill()
