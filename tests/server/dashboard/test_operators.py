"""The other pages of an operator: costs, balances, events, delivery, links for customers."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from urllib.parse import urlsplit

import pytest

from llm_metering.meter import Meter

from ..conftest import PLANS, audit, bearer
from .browser import Choosy
from .conftest import call, get, text_of


@pytest.fixture
def with_dead(home):
    """A home in which a sink has refused two events of three."""
    with Meter(home, [Choosy({"bad", "worse"})], source="app") as meter:
        for model in ("good", "bad", "worse"):
            meter.record(quantity=1, unit="images", subject="acme", model=model)
        assert meter.flush(30)


def test_costs_are_shown_with_what_is_charged_and_what_is_left(serving, send, tmp_path):
    """By subject, in the currency of the plan; who cannot be billed is named."""
    plans = tmp_path / "plans.toml"
    plans.write_text(PLANS)
    with serving(plans=plans) as client:
        send(
            client,
            call("1", data={"model": "gpt-5-mini", "provider": "openai", "total_tokens": 3000}),
            call("2", subject="globex"),
        )
        shown = text_of(get(client, "/costs"))
    assert "charged $3.00" in shown or "$3.00 charged" in shown
    assert re.search(
        r"acme \$3\.00 \$0\.000\d+ \$3\.00 >99\.9%|acme \$3\.00 \$0\.000\d+ \$3\.00 100%", shown
    )
    assert "1 subject has usage, and cannot be billed" in shown
    assert "globex" in shown


def test_without_plans_costs_are_those_of_the_providers(client, send):
    """The page says what is missing."""
    send(client, call("1"))
    shown = text_of(get(client, "/costs"))
    assert "No plans are named" in shown
    assert "What the providers charge" in shown
    assert re.search(r"\$0\.0000?\d", shown)


def test_of_a_month_without_usage_there_is_nothing(client, send):
    """And of what is no month, an error that says so."""
    send(client, call("1"))
    assert "Nothing that was used in this month has a price" in text_of(
        get(client, "/costs?month=2020-02")
    )
    for month in ("2020-13", "x", "20200-1", "0000-01"):
        answer = get(client, f"/costs?month={month}")
        assert (answer.status_code, "month is one such as" in text_of(answer)) == (400, True)


def test_balances_are_shown_with_their_outlook(serving, send, post):
    """Those that are used up most first; of a subject with a chart and its grants."""
    now = datetime.now(UTC)
    with serving(limits="on") as client:
        for subject, amount in (("acme", 1000), ("globex", 100), ("initech", 5)):
            granted = {"subject": subject, "amount": amount}
            assert client.post("/api/v1/grants", json=granted).is_success
        send(client, call("1", data={"total_tokens": 250}), call("2", subject="globex"))
        page = get(client, "/balances")
        shown = text_of(page)
        assert (
            page.text.index(">globex<") < page.text.index(">acme<") < page.text.index(">initech<")
        )
        assert "globex tokens 0 100 120% 0 used up" in shown
        assert "acme tokens 750 1,000 25% 0 too new to tell" in shown
        assert "3 in all" in shown

        one = get(client, "/balances?subject=acme")
        shown = text_of(one)
        assert "750 left of 1,000" in shown
        assert one.text.count('role="img"') == 2
        assert f"{now.year}" in shown
        assert "never granted anything" in text_of(get(client, "/balances?subject=nobody"))


def test_many_balances_are_several_pages(serving):
    """Fifty on each."""
    with serving(limits="on") as client:
        for n in range(51):
            granted = {"subject": f"s{n:02}", "amount": 10}
            assert client.post("/api/v1/grants", json=granted).is_success
        first, second = get(client, "/balances"), get(client, "/balances?page=2")
        assert first.text.count('<tr><th scope="row">') == 50
        assert second.text.count('<tr><th scope="row">') == 1
        assert "Page 2 of 2" in text_of(second)
        assert "There is no such page" in text_of(get(client, "/balances?page=3"))
        assert get(client, "/balances?page=0").status_code == 400


def test_where_limits_are_off_the_page_says_how_to_switch_them_on(serving):
    """It is no error."""
    with serving(limits="off") as client:
        page = get(client, "/balances")
    assert page.status_code == 200
    assert "LLM_METERING_LIMITS=on" in text_of(page)


def test_events_are_shown_with_where_their_counts_come_from(client, send):
    """And with what was odd about them; all of each can be opened."""
    odd = {"provenance": "estimated", "status": "aborted", "flags": ["subject_conflict"]}
    send(client, call("odd", data=odd), call("2", subject="globex"))
    page = get(client, "/events")
    shown = text_of(page)
    assert re.search("acme gpt-5-mini 100 20 120 estimated aborted subject_conflict", shown)
    assert '"id": "odd"' in shown
    assert "globex" in shown
    of_one = text_of(get(client, "/events?subject=acme&id=od"))
    assert "odd" in of_one
    assert "globex" not in of_one
    assert "There are no such events" in text_of(get(client, "/events?subject=nobody"))


def test_older_events_are_behind_a_link(client, send):
    """None is left out between two pages."""
    start = datetime(2026, 11, 1, tzinfo=UTC)
    times = [start + timedelta(seconds=n) for n in range(120)]
    # Some of one moment, at the edge of the first page.
    times[68:74] = [times[70]] * 6
    send(client, *(call(f"e{n:03}", time=each.isoformat()) for n, each in enumerate(times)))
    seen, path, pages = set(), "/events?subject=acme", 0
    while path:
        page = get(client, path)
        seen |= set(re.findall(r"<code>(e\d{3})</code>", page.text))
        found = re.search(r'<a href="(/events\?[^"]*)">Older', page.text)
        path = unescape(found[1]) if found else None
        assert path is None or "subject=acme" in path
        pages += 1
    assert (len(seen), pages) == (120, 3)


def test_dead_events_are_listed_and_offered_again(serving, with_dead, post, home):
    """One of them, then all of the sink; under the same ids, and counted once."""
    with serving() as client:
        page = get(client, "/delivery")
        shown = text_of(page)
        assert "choosy has refused 2 events for good" in shown
        assert "<b>no such model</b>" in shown
        assert "Offer all 2 of choosy again" in shown
        assert "choosy has refused 2 events for good" in text_of(get(client, "/"))
        forms = re.findall(r"(?s)<form[^>]*/delivery/retry.*?</form>", page.text)
        fields = [
            {
                name: unescape(value)
                for name, value in re.findall(r'name="(\w+)" value="([^"]*)"', form)
            }
            for form in forms
        ]
        everything = next(each for each in fields if "id" not in each)
        one = next(each for each in fields if "id" in each)
        answer = post(client, "/delivery/retry", one)
        assert (answer.status_code, urlsplit(answer.headers["location"]).query) == (
            303,
            "retried=1",
        )
        shown = text_of(get(client, "/delivery?retried=1"))
        assert "1 event was put back" in shown
        assert "choosy has refused 1 event for good" in shown
        post(client, "/delivery/retry", everything)
        shown = text_of(get(client, "/delivery"))
        assert "No event was refused for good" in shown
        assert "choosy choosy:// ok 3 1 2 0 0" in shown
        # Again: there is nothing left to put back.
        assert (
            post(client, "/delivery/retry", one)
            .headers["location"]
            .startswith("/delivery?retried=0")
        )
    retried = [line for line in audit(home) if line["action"] == "dead.retry"]
    assert [line["count"] for line in retried] == [1, 1, 0]


def test_who_only_reads_puts_nothing_back(serving, with_dead, keys):
    """The page says what it takes."""
    _, key = keys.create("reader", ["read"])
    with serving(keys_required=True, key=key) as client:
        page = get(client, "/delivery")
        assert "takes a key with the scope admin" in text_of(page)
        assert '<form method="post" action="/delivery/retry"' not in page.text


def test_a_link_is_made_and_taken_back(serving, keys, post, send, home):
    """It opens the pages of one subject, once; what it gave ends when it is taken back."""
    _, admin = keys.create("people", ["admin"])
    with serving(keys_required=True) as client:
        send(client, call("1"), key=admin)
        post(client, "/login", {"key": admin})
        page = post(client, "/customers/link", {"subject": "acme", "life": "week"})
        [link] = re.findall(r"<code data-copy>([^<]*)</code>", page.text)
        link = unescape(link)
        assert link.startswith("http://localhost/portal/link?code=")
        client.cookies.clear()

        asked = get(client, link)
        assert "Show my usage" in text_of(asked)
        # Whoever only looks the link up has not used it.
        get(client, link)
        [code] = re.findall(r'name="code" value="([^"]*)"', asked.text)
        answer = post(client, "/portal/link", {"code": code})
        assert (answer.status_code, answer.headers["location"]) == (303, "/portal")
        assert all("strict" in line.lower() for line in answer.headers.get_list("set-cookie"))
        assert "120 tokens, this month" in text_of(get(client, "/portal"))

        again = post(client, "/portal/link", {"code": code})
        assert again.status_code == 401
        assert "no longer valid" in text_of(again)

        post(client, "/login", {"key": admin})
        [id] = re.findall(r'name="id" value="([^"]*)"', get(client, "/customers").text)
        assert post(client, "/customers/revoke", {"id": id}).status_code == 303
        assert get(client, "/portal").status_code == 401
        assert "Nobody." in text_of(get(client, "/customers"))
    actions = [line["action"] for line in audit(home)]
    assert actions.count("token.create") == actions.count("token.code") == 1
    assert code not in json.dumps(audit(home))


def test_elsewhere_than_on_this_machine_links_are_for_https(serving, post):
    """As the cookie is."""
    with serving(hosts=("meter.example",)) as client:
        client.base_url = "http://meter.example"
        page = post(client, "/customers/link", {"subject": "acme", "life": "hour"})
    assert "https://meter.example/portal/link?code=" in page.text


@pytest.mark.parametrize(
    "fields",
    [
        {"subject": "", "life": "hour"},
        {"subject": "x" * 1001, "life": "hour"},
        {"subject": "a", "life": "x"},
    ],
)
def test_no_link_is_made_of_what_is_no_subject(client, post, tokens, fields):
    """And nothing is kept."""
    answer = post(client, "/customers/link", fields)
    assert answer.status_code == 400
    assert "Make a link" in text_of(answer)
    assert tokens.all() == []


def test_a_customer_sees_bill_and_balance(serving, tokens, send, tmp_path, post):
    """And can print the bill, take it along, and leave."""
    plans = tmp_path / "plans.toml"
    plans.write_text(
        PLANS.replace('currency = "USD"', 'currency = "EUR"\ntime_zone = "Europe/Berlin"')
    )
    _, text = tokens.create("acme")
    cookie = {"Cookie": f"llm_metering_portal={text}"}
    with serving(plans=plans, limits="on") as client:
        granted = {"subject": "acme", "amount": 5000, "recurrence": "MONTH"}
        assert client.post("/api/v1/grants", json=granted).is_success
        send(client, call("1", data={"total_tokens": 2000}))
        page = get(client, "/portal", **cookie, **{"Accept-Language": "de"})
        shown = text_of(page)
        assert "Usage of acme" in shown
        assert "3.000 left of 5.000" in shown
        assert "40% used" in shown or "40\xa0% used" in shown
        assert "2,00\xa0€" in page.text
        assert "2.000 tokens, this month" in shown
        assert "(Europe/Berlin)" in shown

        month = re.search(r'/portal/bill\?month=(\d{4}-\d\d)">To print', page.text)[1]
        bill = get(client, f"/portal/bill?month={month}", **cookie)
        assert "Bill of" in text_of(bill)
        assert re.search(r"style-src 'sha256-[\w+/]{43}='", bill.headers["content-security-policy"])
        as_csv = get(client, f"/portal/bill.csv?month={month}", **cookie)
        assert as_csv.text.startswith("subject,line,")
        assert get(client, "/portal/bill?month=x", **cookie).status_code == 400

        assert "What a token is" in text_of(get(client, "/portal/counting", **cookie))
        left = post(client, "/portal/leave", **cookie)
        assert left.status_code == 303
        assert all("Max-Age=0" in line for line in left.headers.get_list("set-cookie"))
        assert "You have left" in text_of(get(client, "/portal/link"))


def test_a_customer_without_plan_or_grant_sees_usage_alone(serving, tokens, send, tmp_path):
    """Nothing that is written for the operator."""
    plans = tmp_path / "plans.toml"
    plans.write_text(PLANS)
    _, text = tokens.create("globex")
    with serving(plans=plans, limits="on", key=text) as client:
        shown = text_of(get(client, "/portal"))
        assert "You used nothing this month" in shown
        for other in ("default_plan", "[[subjects]]", "Cost of", "What is left", "acme"):
            assert other not in shown
        assert get(client, "/portal/bill").status_code == 404


def test_what_is_wrong_with_a_plan_is_no_customers_business(serving, tokens, tmp_path):
    """It is told that the cost cannot be shown."""
    plans = tmp_path / "plans.toml"
    plans.write_text("[[plans]]\nname = secret-plan\n")
    _, text = tokens.create("acme")
    with serving(plans=plans, key=text) as client:
        page = get(client, "/portal")
    assert page.status_code == 200
    assert "secret-plan" not in page.text


def test_a_page_that_is_not_there_is_a_page(client, keys):
    """For people; a program is told in its own way."""
    page = get(client, "/nowhere")
    assert (page.status_code, "There is no such page" in text_of(page)) == (404, True)
    assert client.get("/nowhere").headers["content-type"] == "application/problem+json"
    assert get(client, "/api/v1/nowhere").headers["content-type"] == "application/problem+json"


def test_too_many_requests_are_told_so_on_a_page(serving, keys):
    """With when to come again."""
    _, key = keys.create("slow", ["read"], requests_per_minute=6)
    with serving(keys_required=True, key=key) as client:
        assert get(client, "/delivery").status_code == 200
        page = get(client, "/delivery")
    assert page.status_code == 429
    assert int(page.headers["retry-after"]) >= 1
    assert "at most 6 requests a minute" in text_of(page)
    assert bearer(key)["Authorization"] not in page.text


def test_a_file_for_a_spreadsheet_has_no_formulas(client, send):
    """A program that sends usage is no reader of the operator's files."""
    names = ["=HYPERLINK(1)", "+1", "-1", "@x", "a,b", "\t=1"]
    send(client, *(call(str(n), data={"model": name}) for n, name in enumerate(names)))
    text = client.get("/usage.csv?period=24h").text
    rows = list(csv.DictReader(io.StringIO(text)))
    shown = ["'=HYPERLINK(1)", "'+1", "'-1", "'@x", "a,b", "'\t=1"]
    assert sorted(row["model"] for row in rows) == sorted(shown)
    assert {row["value"] for row in rows} == {"120"}
