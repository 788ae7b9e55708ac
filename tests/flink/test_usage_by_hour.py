"""The statements of the page on stream processing, run by Flink against a ledger."""

from __future__ import annotations

import time
from datetime import timedelta

import psycopg
import pytest

from llm_metering.token_usage import TokenUsage
from tests.factories import NOON, make_event
from tests.usage_by_hour import some_events

from .conftest import PAGES

# A cluster is started in each.
pytestmark = pytest.mark.timeout(400)


HOUR = timedelta(hours=1)
WINDOWED = """
INSERT INTO llm_usage_by_hour
SELECT
    window_start, `subject`, `data`.`model`, COUNT(*), SUM(`data`.`calls`),
    SUM(`data`.`input_tokens`), SUM(`data`.`output_tokens`),
    SUM(`data`.`cache_read_input_tokens`), SUM(`data`.`total_tokens`),
    COUNT(*) - COUNT(`data`.`input_tokens`), COUNT(*) - COUNT(`data`.`output_tokens`)
FROM TUMBLE(TABLE llm_events, DESCRIPTOR(`time`), INTERVAL '1' HOUR)
GROUP BY window_start, window_end, `subject`, `data`.`model`
ON CONFLICT DO DEDUPLICATE;
"""


def test_hours_are_those_of_the_ledger(bench, start):
    """Repeated and late events, models and counts that nobody knows: every sum is the ledger's."""
    events = some_events(500, seed=1)
    bench.send(events)
    job = start()
    first = bench.read_topic(job, bench.send_last_of_all())
    bench.expect_what_the_ledger_has(first)
    assert any(row["input_tokens"] is None for row in first.values())
    assert any(not model for _, _, model in first)

    bench.send(events[:100] + some_events(100, seed=2))
    second = bench.read_topic(job, bench.send_last_of_all())

    bench.expect_what_the_ledger_has(second)
    assert "Deduplicate(keep=[FirstRow]" in job.output
    # It would keep each row once more, and forget it after the time of the deduplication.
    assert "upsertMaterialize" not in job.output


def test_a_killed_job_goes_on_from_its_checkpoint(bench, start):
    """What comes again after Flink itself was killed is not counted again, nor is anything lost."""
    events = some_events(200, seed=3)
    job = start()
    bench.send(events)
    bench.read_topic(job, bench.send_last_of_all())
    checkpoint = job.wait_for_checkpoint()
    bench.empty_topic()
    after_it = some_events(100, seed=4)
    bench.send(after_it)
    bench.read_topic(job, bench.send_last_of_all())
    job.kill()

    bench.send([*events[:100], *after_it, *some_events(100, seed=5)])
    hours = bench.read_topic(start(recover_from=checkpoint), bench.send_last_of_all())

    bench.expect_what_the_ledger_has(hours)


def test_an_event_is_forgotten_after_its_time_and_a_sum_never(bench, start):
    """A repeat after the time that events are remembered counts twice; no hour begins anew."""
    job = start(instead={"'90 d'": "'1 s'"})
    event = make_event(usage=TokenUsage(input_tokens=100, output_tokens=20))
    bench.send([event])
    bench.read_topic(job, bench.send_last_of_all())

    time.sleep(2)  # by Flink's clock, which a test cannot set
    bench.send([event, make_event(usage=TokenUsage(input_tokens=1, output_tokens=2))])
    hours = bench.read_topic(job, bench.send_last_of_all())

    row = hours["2026-11-21T12", event.subject, event.model]
    assert (row["events"], row["input_tokens"], row["output_tokens"]) == (3, 201, 42)


def test_what_is_no_event_stops_the_job(bench, start):
    """Nothing is passed over: Flink ends with the reason."""
    bench.send([make_event()])
    bench.send_raw(b"no JSON")
    job = start()

    assert job.wait() == 1
    assert "Failed to deserialize JSON 'no JSON'" in job.output


def test_a_window_would_lose_what_comes_late(bench, start):
    """With a watermark and a window instead, an event of an hour that is over is dropped."""
    text = (PAGES / "usage_by_hour.sql").read_text("utf-8")
    job = start(
        instead={
            "`read_at` AS PROCTIME()": "WATERMARK FOR `time` AS `time`",
            text[text.index("CREATE VIEW") : text.index("CREATE TABLE llm_usage_by_hour")]: "",
            text[text.index("INSERT") :]: WINDOWED,
        }
    )
    event = make_event()
    bench.send([event])
    last = bench.send_last_of_all(NOON + 2 * HOUR)
    bench.read_topic(job, {event.subject})

    bench.send([make_event()])
    bench.send_last_of_all(NOON + 4 * HOUR)
    hours = bench.read_topic(job, last)

    assert hours["2026-11-21T12", event.subject, event.model]["events"] == 1


@pytest.fixture
def postgres_table(servers):
    """The table of hours, made as the documentation makes it."""
    host, port = servers.postgres.split(":")
    with psycopg.connect(
        host=host, port=int(port), user="postgres", dbname="postgres"
    ) as connection:
        connection.execute((PAGES / "postgres.sql").read_text("utf-8"))


def test_hours_in_postgres_are_those_of_the_ledger(bench, start, postgres_table):
    """The same statements fill a table of PostgreSQL, a row for each hour, subject and model."""
    events = some_events(300, seed=6)
    bench.send(events)
    job = start(table="postgres_table.sql")
    bench.expect_what_the_ledger_has(bench.read_postgres(job, bench.send_last_of_all()))

    bench.send(events[:100] + some_events(100, seed=7))

    bench.expect_what_the_ledger_has(bench.read_postgres(job, bench.send_last_of_all()))
    assert "upsertMaterialize" not in job.output
