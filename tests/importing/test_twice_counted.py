"""One usage that a file, or another process, says in two ways is not counted twice."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest

from llm_metering.errors import ImportFileError
from llm_metering.importing import import_file
from llm_metering.ledger import Ledger, staging
from tests.factories import batch_of, make_event

from .exports import (
    AFTER,
    DAY,
    OPENAI_TABLE,
    anthropic_bucket,
    anthropic_page,
    completions,
    messages,
    openai_bucket,
    openai_page,
    seconds,
    table,
    write,
)

HOUR = timedelta(hours=1)


def by_hour(result, hours, bucket=openai_bucket):
    return [bucket(result, start=DAY + each * HOUR, width=HOUR) for each in hours]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(
            [
                openai_page(openai_bucket(completions(project_id=None))),
                openai_page(openai_bucket(completions(model=None))),
            ],
            id="by model and by project",
        ),
        pytest.param(
            [openai_page(openai_bucket(completions())), openai_page(*by_hour(completions(), [5]))],
            id="by day and by hour",
        ),
        pytest.param(
            openai_page(*by_hour(completions(), [5]), openai_bucket(completions())),
            id="a day behind its hour",
        ),
        pytest.param(
            [
                anthropic_page(anthropic_bucket(messages())),
                anthropic_page(*by_hour(messages(), [23], anthropic_bucket)),
            ],
            id="Anthropic's day and hour",
        ),
        pytest.param(
            table(
                OPENAI_TABLE,
                {},
                {"start_time": str(seconds(DAY + HOUR)), "end_time": str(seconds(DAY + 2 * HOUR))},
            ),
            id="a table of days and hours",
        ),
    ],
)
def test_usage_grouped_in_two_ways_is_refused(importing, events, tmp_path, content):
    """Buckets that overlap, or come twice with other keys, need the word that two files would."""
    path = write(tmp_path / "u.json", content)

    with pytest.raises(ImportFileError, match=r"would count twice; .*--beside-recorded"):
        importing(path, subject="acme")

    assert events() == []
    assert importing(path, subject="acme", beside_recorded=True).new == 2


def test_buckets_side_by_side_are_no_overlap(importing, total, tmp_path):
    """Hours behind each other, a page that was fetched again, and a row that has come since, are fine."""
    first, second, third = by_hour(completions(), [4, 5, 6])
    late = openai_bucket(
        completions(), completions(project_id="proj_b"), start=DAY + 5 * HOUR, width=HOUR
    )
    pages = [openai_page(first, second), openai_page(late, third)]

    imported = importing(write(tmp_path / "u.json", pages), subject="acme")

    assert (imported.new, imported.repeated) == (4, 1)
    assert total() == 4800


def test_the_same_usage_imported_meanwhile_is_seen(ledger, tmp_path, monkeypatch):
    """Usage grouped otherwise that another process imports after the first look is no new one."""
    mine = write(tmp_path / "u.json", openai_page(openai_bucket(completions(project_id=None))))
    theirs = write(tmp_path / "v.json", openai_page(openai_bucket(completions(model=None))))
    take = staging.Staging.take

    def late(self, *asked):
        monkeypatch.setattr(staging.Staging, "take", take)
        import_file(Ledger(ledger.path), theirs, subject="acme", clock=lambda: AFTER)
        return take(self, *asked)

    monkeypatch.setattr(staging.Staging, "take", late)
    for path in (mine, theirs):
        os.utime(path, (AFTER, AFTER))

    with pytest.raises(ImportFileError, match="1 of 'import:openai'"):
        import_file(ledger, mine, subject="acme", clock=lambda: AFTER)

    again = import_file(ledger, mine, subject="acme", clock=lambda: AFTER, beside_recorded=True)
    assert again.new == 1


@pytest.mark.parametrize(
    ("moment", "is_refused"),
    [
        pytest.param(DAY + HOUR, True, id="of the bucket"),
        pytest.param(DAY - timedelta(days=2), False, id="of another day"),
    ],
)
def test_calls_that_arrive_meanwhile_are_seen(
    ledger, importing, total, tmp_path, monkeypatch, moment, is_refused
):
    """So are metered calls that arrive after the first look."""
    path = write(tmp_path / "u.json", openai_page(openai_bucket(completions())))
    take = staging.Staging.take

    def late(self, *asked):
        Ledger(ledger.path).deliver(batch_of([make_event(time=moment)]))
        return take(self, *asked)

    monkeypatch.setattr(staging.Staging, "take", late)

    if is_refused:
        with pytest.raises(ImportFileError, match="1 of 'tests'"):
            importing(path, subject="acme")
    else:
        importing(path, subject="acme")

    assert total() == 120 + (0 if is_refused else 1200)


@pytest.mark.parametrize("source", [None, "team-a"], ids=["", "of another source"])
def test_a_pruned_bucket_is_seen(ledger, importing, tmp_path, source):
    """Of a day whose body is gone nobody knows the end, so that it may reach into what comes."""
    day = write(tmp_path / "d.json", openai_page(openai_bucket(completions())))
    asked = {"subject": "acme", "source": source}
    importing(day, **asked)
    with closing(sqlite3.connect(ledger.path)) as connection, connection:
        connection.execute("UPDATE events SET payload = ''")
    within = write(tmp_path / "h.json", openai_page(*by_hour(completions(), [5, 6])))
    behind = write(tmp_path / "b.json", openai_page(*by_hour(completions(), [24, 25])))

    with pytest.raises(ImportFileError, match="would count twice"):
        importing(within, **asked)

    assert importing(behind, **asked).new == 2
    assert importing(day, **asked).known == 1
