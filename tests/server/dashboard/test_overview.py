"""The first page: whether the meter is right, and what was used."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import re
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest

from llm_metering.server.dashboard import pages as pages_module
from llm_metering.server.reading import Reading

from .conftest import call, get, text_of


def test_an_empty_home_says_how_to_begin(client):
    """And nothing of it looks like an error."""
    page = get(client, "/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    shown = text_of(page)
    assert "The meter is right" in shown
    assert "Nothing was recorded in this home yet" in shown


def test_what_was_used_is_shown_with_its_sums(client, send):
    """By subject, by model, by where the counts come from."""
    send(
        client,
        call("1", subject="acme"),
        call("2", subject="globex", data={"model": "o3", "total_tokens": 1_000_000}),
        call("3", data={"provenance": "missing", "total_tokens": None, "status": "interrupted"}),
    )
    shown = text_of(get(client, "/"))
    assert "1,000,120 tokens, in the last 7 days" in shown
    assert "globex 1,000,000" in shown
    assert "o3 1,000,000 >99.9%" in shown
    assert "nobody knows the usage of 1 calls of this period" in shown
    assert re.search(
        "reported all counts are the provider's final ones 2 66.7% 1,000,120 100%", shown
    )
    assert "1 interrupted calls" in shown or "interrupted calls in the period below 1" in shown


@pytest.mark.parametrize(
    ("accepted", "number", "moment"),
    [
        ("de-DE", "1.234.567", r"As of \d\d\.\d\d\.\d{4}, \d\d:"),
        ("en-US", "1,234,567", "As of [A-Z]"),
    ],
)
def test_numbers_and_times_are_the_readers(client, send, accepted, number, moment):
    """By what the browser says, without any script."""
    send(client, call("1", data={"total_tokens": 1_234_567}))
    shown = text_of(get(client, "/", **{"Accept-Language": accepted}))
    assert number in shown
    assert re.search(moment, shown)


def test_the_address_says_what_is_shown(client, send):
    """Meter, group, subject, conditions."""
    send(
        client,
        call("1", subject="acme"),
        call("2", subject="acme", data={"model": "o3"}),
        call("3", subject="globex", data={"model": "o3"}),
    )
    path = "/?meter=calls_total&groupBy=subject&filterGroupBy[model]=o3&subject=acme&period=24h"
    page = get(client, path)
    shown = text_of(page)
    assert "1 calls, in the last 24 hours" in shown
    assert "model: o3" in shown
    assert '<option value="24h" selected>' in page.text
    assert "globex" not in re.sub("(?s)<datalist.*?</datalist>", "", page.text)


def test_of_one_subject_groups_go_without_its_name(client, send):
    """It would stand before each of them; of two it has to."""
    send(client, call("1"), call("2", subject="globex"))
    assert "acme / gpt-5-mini" not in get(client, "/?subject=acme").text
    assert "acme / gpt-5-mini" in get(client, "/?subject=acme&subject=globex").text


def test_a_chart_is_drawn_and_has_its_numbers_in_a_table(client, send):
    """Once for a desk and once for a phone; without colours of text, which are the theme's."""
    send(client, call("1"), call("2", data={"model": "o3", "total_tokens": 7}))
    page = get(client, "/").text
    assert page.count('role="img"') == 2
    [first, second] = re.findall(r'<svg xmlns="http.*?</svg>', page, flags=re.DOTALL)
    assert first != second
    assert "style=" not in first
    assert ">o3<" in first
    assert re.search(r'<td class="n">120</td><td class="n">7</td><td class="n">127</td>', page)


def test_a_day_may_be_downloaded(client, send):
    """What is shown, with all its rows."""
    send(client, call("1"), call("2", subject="globex"))
    answer = client.get("/usage.csv?groupBy=subject&period=24h")
    assert answer.headers["content-type"].startswith("text/csv")
    assert "attachment" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert {(row["subject"], row["value"]) for row in rows} == {("acme", "120"), ("globex", "120")}


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("period=yesterday", "period is one of"),
        ("meter=nothing", "there is no meter nothing"),
        ("windowTimeZone=Mars", "unknown time_zone"),
        ("groupBy=color", "has no key color"),
        ("from=2026-13-01", "from is a time"),
        ("x=1", "there is no parameter x"),
    ],
)
def test_what_makes_no_sense_is_said_above_the_fields(client, query, words):
    """Which can be changed there."""
    page = get(client, f"/?{query}")
    assert words in text_of(page)
    assert 'name="period"' in page.text
    assert get(client, f"/usage.csv?{query}").status_code == 400


def test_very_many_subjects_are_a_few_and_the_others(client, send):
    """The page stays one that can be read; the sums are of all."""
    send(client, *(call(str(n), subject=f"customer-{n:05}") for n in range(3000)))
    page = get(client, "/?groupBy=subject")
    assert len(page.text) < 400_000
    shown = text_of(page)
    assert "360,000 tokens" in shown
    assert "2,990 others 358,800 99.7%" in shown
    assert "other (2,991 more)" in shown


def test_very_large_numbers_are_written_in_full(client, send):
    """And short in the picture."""
    send(client, *(call(str(n), data={"total_tokens": 9 * 10**11}) for n in range(3)))
    assert "2,700,000,000,000 tokens" in text_of(get(client, "/"))


def test_more_windows_than_can_be_drawn_are_refused(client, send):
    """With what to do instead."""
    send(client, call("1"))
    shown = text_of(get(client, "/?windowSize=MINUTE&period=30d"))
    assert "choose longer ones" in shown


def test_while_the_answer_is_worked_out_the_page_says_so(serving, monkeypatch):
    """The head of the page is there at once, and the answer behind it."""
    monkeypatch.setattr(pages_module, "PATIENCE", 0.05)
    ask = Reading.ask

    async def slow(self, function):
        return await ask(self, lambda ledger: (time.sleep(0.5), function(ledger))[1])

    monkeypatch.setattr(Reading, "ask", slow)
    with serving() as client:
        page = get(client, "/")
    head, main, _ = page.text.partition("<main")
    assert page.status_code == 200
    assert 'role="status"' in head
    assert "Working it out" in head
    assert main
    assert "The meter is right" in text_of(page)
    assert page.text.count("<main") == page.text.count("</html>") == 1


def test_what_fails_behind_the_head_is_told_on_the_page(serving, monkeypatch, caplog):
    """Without what it was."""
    monkeypatch.setattr(pages_module, "PATIENCE", 0.05)

    async def fail(self, function):
        await asyncio.sleep(0.3)
        raise ValueError("secret")

    monkeypatch.setattr(Reading, "ask", fail)
    with serving() as client:
        page = get(client, "/")
    assert "This cannot be shown now" in text_of(page)
    assert page.text.rstrip().endswith("</html>")
    assert "secret" not in page.text
    assert "secret" not in caplog.text


def test_without_a_ledger_the_page_says_where_to_ask(serving, tmp_path):
    """It is no error of ours."""
    sink = f"jsonl://{tmp_path}/usage.jsonl"
    with serving(ledger=False, sinks=[sink]) as client:
        page = get(client, "/")
    assert page.status_code == 501
    assert "keeps no ledger" in text_of(page)


def test_a_chart_that_cannot_be_drawn_leaves_the_numbers(client, send, monkeypatch):
    """What draws may be killed, for want of memory."""
    send(client, call("1"))

    async def none(*_):
        return None

    monkeypatch.setattr(type(client.app.state.pages.drawing), "svg", none)
    page = get(client, "/")
    assert "The chart could not be drawn" in text_of(page)
    assert '<td class="n">120</td>' in page.text


def test_what_draws_is_begun_again_when_it_was_killed(client, send):
    """The next page has its chart."""
    send(client, call("1"))
    assert get(client, "/").text.count('role="img"') == 2
    drawing = client.app.state.pages.drawing
    [pid] = drawing._pool._processes
    os.kill(pid, signal.SIGKILL)
    drawing._kept.clear()
    assert get(client, "/").text.count('role="img"') == 2
    assert pid not in drawing._pool._processes


def test_more_bars_than_can_be_read_are_no_picture(client, send):
    """Of all time nobody knows before how many there are; the file has them."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    times = [(start + timedelta(hours=n)).isoformat() for n in range(1501)]
    send(client, *(call(str(n), time=each) for n, each in enumerate(times)))
    page = get(client, "/?period=all&windowSize=HOUR")
    shown = text_of(page)
    assert "180,120 tokens, of all time" in shown
    assert "1,501 bars cannot be read" in shown
    assert "1,301 earlier windows are not in this table" in shown
    assert len(page.text) < 200_000
    rows = client.get("/usage.csv?period=all&windowSize=HOUR").text.splitlines()
    assert len(rows) == 1502


def test_values_that_do_not_add_up_have_no_sum(client, send):
    """A mean of one subject is one; of two it is none."""
    made = {
        "slug": "mean",
        "aggregation": "AVG",
        "eventType": "llm.usage",
        "valueProperty": "$.total_tokens",
    }
    assert client.post("/api/v1/meters", json=made).is_success
    send(client, call("1"), call("2", subject="globex", data={"total_tokens": 60}))
    path = "/?meter=mean&groupBy=none"
    assert "90 mean (AVG), in the last 7 days" in text_of(get(client, path))
    assert "60 mean (AVG)" in text_of(get(client, f"{path}&subject=globex"))
    both = text_of(get(client, f"{path}&subject=globex&subject=acme"))
    assert "- mean (AVG), in the last 7 days" in both
    assert "nothing mean" not in both
