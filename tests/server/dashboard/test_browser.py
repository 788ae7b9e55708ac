"""The pages in a real Chromium: both themes, a desk and a phone, with and without JavaScript.

With SCREENSHOTS a folder gets a picture of each page.
"""

from __future__ import annotations

import contextlib
import csv
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

from llm_metering.access import ApiKeys, PortalTokens

from ..conftest import Process, bearer
from .browser import FLAGS, PLANS, fill, find_chromium
from .conftest import call

OPERATORS = {
    "overview": "/",
    "subjects": "/?groupBy=subject&period=30d",
    "hours": "/?period=7d&windowSize=HOUR&windowTimeZone=Asia/Kathmandu&from=2026-11-01",
    "one": "/?subject=acme&filterGroupBy[model]=gpt-5",
    "empty": "/?subject=nobody",
    "wrong": "/?period=yesterday",
    "costs": "/costs",
    "balances": "/balances",
    "balance": "/balances?subject=acme",
    "events": "/events",
    "delivery": "/delivery",
    "customers": "/customers",
    "nowhere": "/nowhere",
}
CUSTOMERS = {
    "portal": "/portal",
    "portal-days": "/portal?period=30d&groupBy=provenance",
    "counting": "/portal/counting",
    "bill": "/portal/bill",
    "portal-error": "/portal?period=x",
}
EXPECTED = {"wrong": 400, "nowhere": 404, "portal-error": 400}
PICTURES = os.environ.get("SCREENSHOTS")
PHONE, DESK = (390, 844), (1280, 900)


@pytest.fixture(scope="module")
def chromium():
    """A browser."""
    with sync_playwright() as playwright:
        path = find_chromium(playwright)
        if path is None:
            pytest.skip("there is no Chromium here")
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


class Site:
    """A server with something to look at.

    Attributes:
        url: Where it is.
        home: Its home.
        key: One for everything.
    """

    def __init__(self, url, home, key):
        self.url = url
        self.home = home
        self.key = key

    def token(self, subject="acme"):
        """A portal token."""
        with contextlib.closing(PortalTokens(self.home)) as tokens:
            return tokens.create(subject)[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A server with something to look at, as a process of its own."""
    folder = tmp_path_factory.mktemp("site")
    home = folder / "home"
    plans = folder / "plans.toml"
    plans.write_text(PLANS)
    fill(home)
    with contextlib.closing(ApiKeys(home)) as keys:
        _, key = keys.create("The operator", ["admin"])
    process = Process(
        home,
        LLM_METERING_LIMITS="on",
        LLM_METERING_PLANS=str(plans),
    )
    # Clients of HTTP libraries go to the name; cookies are of names, not of addresses.
    yield Site(f"http://localhost:{process.address[1]}", home, key)
    assert process.stop() == 0
    assert "ERROR" not in process.said


@pytest.fixture
def browse(chromium, site):
    """Open a browser's window; gives a page whose every complaint is an error of the test."""
    opened = []

    def browse(who=None, *, size=DESK, theme="light", js=True, locale="en-US"):
        context = chromium.new_context(
            base_url=site.url,
            viewport={"width": size[0], "height": size[1]},
            color_scheme=theme,
            java_script_enabled=js,
            locale=locale,
        )
        page = context.new_page()
        complaints, asked = [], []
        page.on(
            "console", lambda told: complaints.append(told.text) if told.type == "error" else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        opened.append((context, complaints, asked))
        if who == "operator":
            page.goto("/login")
            page.fill("[name=key]", site.key)
            page.click("text=Sign in >> nth=-1")
            page.wait_for_url(f"{site.url}/")
        elif who == "customer":
            cookie = {"name": "llm_metering_portal", "value": site.token(), "sameSite": "Strict"}
            context.add_cookies([{**cookie, "domain": "localhost", "path": "/portal"}])
        return page

    yield browse
    for context, complaints, asked in opened:
        context.close()
        # A page that is refused says so in its status, which Chromium complains of.
        assert [each for each in complaints if "status of 4" not in each] == []
        assert {urlsplit(url).netloc for url in asked} <= {urlsplit(site.url).netloc}


def look_at(page, name):
    """Keep a picture, if somebody wants one."""
    if PICTURES is not None:
        page.screenshot(path=str(Path(PICTURES) / f"{name}.png"), full_page=True)


def check(page, name):
    """It fits the window, and nobody is kept out."""
    for details in page.locator("details:not([open]) > summary").all():
        if details.is_visible():
            details.click()
    look_at(page, name)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= page.viewport_size["width"], width
    found = Axe().run(page).response["violations"]
    serious = [
        (each["id"], [node["html"][:200] for node in each["nodes"][:3]])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
    assert serious == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_every_page_can_be_read_by_everybody(browse, theme, size):
    """axe-core finds nothing serious on it, and nothing is wider than the window."""
    kind = f"{theme}-{'phone' if size is PHONE else 'desk'}"
    page = browse(size=size, theme=theme)
    for name, path in {
        "login": "/login",
        "link": "/portal/link?code=x",
        "left": "/portal/link",
    }.items():
        page.goto(path)
        check(page, f"{name}-{kind}")
    for who, paths in (("operator", OPERATORS), ("customer", CUSTOMERS)):
        page = browse(who, size=size, theme=theme)
        for name, path in paths.items():
            answer = page.goto(path)
            assert answer.status == EXPECTED.get(name, 200), (name, answer.status)
            check(page, f"{name}-{kind}")


def test_a_chart_has_the_colours_of_its_theme(browse):
    """Its text is the page's, its bars are ones that can be told from the ground."""
    seen = {}
    for theme in ("light", "dark"):
        page = browse("operator", theme=theme)
        colours = page.evaluate(
            """() => {
                const chart = document.querySelector('.chart .wide svg');
                const of = (each, what) => getComputedStyle(each)[what];
                return {
                    text: of(chart.querySelector('text'), 'fill'),
                    page: of(document.body, 'color'),
                    ground: of(document.body, 'backgroundColor'),
                    bar: of(chart.querySelector('[fill="#332288"]'), 'fill'),
                };
            }"""
        )
        assert colours["text"] == colours["page"]
        seen[theme] = colours
    assert seen["light"]["ground"] != seen["dark"]["ground"]
    assert seen["light"]["bar"] == "rgb(51, 34, 136)"
    assert seen["dark"]["bar"] != seen["light"]["bar"]


def test_a_phone_is_shown_the_narrow_chart(browse):
    """And a desk the wide one; each one of both."""
    for size, shown, hidden in ((DESK, "wide", "narrow"), (PHONE, "narrow", "wide")):
        page = browse("operator", size=size)
        expect(page.locator(f".chart .{shown}").first).to_be_visible()
        expect(page.locator(f".chart .{hidden}").first).to_be_hidden()


@pytest.mark.parametrize("js", [True, False], ids=["script", "no script"])
@pytest.mark.parametrize("who", ["operator", "customer"])
def test_every_field_is_in_the_address(browse, who, js):
    """What was chosen is shown, chosen still, and what a link to it shows to others."""
    page = browse(who, js=js)
    page.goto("/" if who == "operator" else "/portal")
    fields = {
        "meter": "calls_total",
        "period": "30d",
        "windowSize": "DAY",
        "groupBy": "provenance",
        "key": "framework",
    }
    page.click("text=Times and conditions")
    for name, value in fields.items():
        page.select_option(f".pickers [name={name}]", value)
    page.fill(".pickers [name=value]", "langchain")
    page.fill(".pickers [name=windowTimeZone]", "Asia/Tokyo")
    if who == "operator":
        page.fill(".pickers [name=subject]", "acme")
    page.click(".pickers button")
    asked = parse_qs(urlsplit(page.url).query)
    assert asked["meter"] == ["calls_total"]
    assert asked["value"] == ["langchain"]
    for name in ("meter", "period", "windowSize", "groupBy"):
        assert page.input_value(f".pickers [name={name}]") == fields[name]
    expect(page.locator(".chips")).to_contain_text("framework: langchain")
    total = page.text_content("#usage .total strong")
    assert int(total) > 0
    other = browse(who)
    other.goto(page.url)
    assert other.text_content("#usage .total strong") == total
    # Without its condition there are more.
    page.click("[aria-label='Without the condition on framework']")
    expect(page.locator(".chips >> text=framework")).to_have_count(0)
    assert int(page.text_content("#usage .total strong")) > int(total)


@pytest.mark.parametrize("js", [True, False], ids=["script", "no script"])
def test_every_other_form_asks_for_what_is_written_in_it(browse, js):
    """Times, a month, whose events, whose balances."""
    page = browse("operator", js=js)
    now = datetime.now(UTC)
    start = now - timedelta(days=20)
    page.click("text=Times and conditions")
    page.fill(".pickers [name=from]", f"{start:%Y-%m-%d}T00:00")
    page.fill(".pickers [name=to]", f"{now:%Y-%m-%d}T00:00")
    page.click(".pickers button")
    expect(page.locator("#usage .total")).to_contain_text("from ")
    assert page.input_value(".pickers [name=from]") == f"{start:%Y-%m-%d}T00:00"
    page.click("details.numbers summary")
    expect(page.locator("details.numbers tbody tr").first).to_be_visible()

    page.goto("/costs")
    page.fill("[name=month]", "2020-01")
    page.click("button.primary")
    expect(page.locator("h1")).to_have_text("Costs of January 2020")
    page.click("text=2019-12")
    expect(page.locator("h1")).to_have_text("Costs of December 2019")

    page.goto("/events")
    page.fill("[name=subject]", "globex")
    page.fill("[name=from]", f"{start:%Y-%m-%d}T00:00")
    page.click("button.primary")
    shown = page.locator("#events tbody tr:not(.detail) td:nth-child(2)").all_text_contents()
    assert set(shown) == {"globex"}

    page.goto("/balances")
    page.fill("[name=subject]", "initech")
    page.click("button.primary")
    expect(page.locator("h1")).to_have_text("Balances of initech")


@pytest.mark.parametrize("js", [True, False], ids=["script", "no script"])
def test_what_is_shown_can_be_taken_along(browse, js, tmp_path):
    """As CSV, with the same sum; and the bill."""
    for who, path, link in (
        ("operator", "/?period=30d&subject=acme", "Download as CSV"),
        ("customer", "/portal?period=30d", "Download as CSV"),
        ("customer", "/portal", "As CSV"),
    ):
        page = browse(who, js=js)
        page.goto(path)
        with page.expect_download() as download:
            page.click(f"text={link}")
        target = tmp_path / "file.csv"
        download.value.save_as(target)
        rows = list(csv.DictReader(target.read_text("utf-8").splitlines()))
        assert rows
        if link == "Download as CSV":
            shown = int(page.text_content("#usage .total strong").replace(",", ""))
            assert sum(int(row["value"]) for row in rows) == shown
        else:
            assert {row["subject"] for row in rows} == {"acme"}


@pytest.mark.parametrize("js", [True, False], ids=["script", "no script"])
def test_an_operator_gets_around_without_anything_but_links(browse, js):
    """Each page by the one before, then out."""
    page = browse("operator", js=js)
    for name in ("Costs", "Balances", "Events", "Delivery", "Customers", "Overview"):
        page.click(f"nav >> text={name}")
        current = page.locator("nav [aria-current=page]")
        expect(current).to_have_text(name)
    page.click("table.tops >> nth=0 >> a >> nth=0")
    assert "subject=acme" in page.url
    page.goto("/balances")
    page.click("table >> text=acme")
    expect(page.locator("h1")).to_have_text("Balances of acme")
    expect(page.locator(".balance")).to_have_count(2)
    page.goto("/events")
    page.click("text=Older events")
    assert "to=" in page.url
    page.click("text=Sign out")
    assert urlsplit(page.url).path == "/login"
    page.goto("/costs")
    assert urlsplit(page.url).path == "/login"


@pytest.mark.parametrize("js", [True, False], ids=["script", "no script"])
def test_a_link_for_a_customer_is_made_and_opened(browse, js):
    """In another browser, once."""
    page = browse("operator", js=js)
    page.goto("/customers")
    page.fill("[name=subject]", "globex")
    page.select_option("[name=life]", "day")
    page.click("text=Make a link")
    link = page.text_content("[data-copy]").strip()
    theirs = browse(js=js)
    theirs.goto(link)
    theirs.click("text=Show my usage")
    assert urlsplit(theirs.url).path == "/portal"
    expect(theirs.locator("header")).to_contain_text("Usage of globex")
    assert "acme" not in theirs.content()
    theirs.click("text=How it is counted")
    expect(theirs.locator("h1")).to_have_text("How it is counted")
    theirs.goto("/")
    assert urlsplit(theirs.url).path == "/login"
    theirs.goto("/portal")
    theirs.click("text=Leave")
    expect(theirs.locator("h1")).to_have_text("You have left")
    theirs.goto("/portal")
    assert "acme" not in theirs.content()
    again = browse(js=js)
    again.goto(link)
    again.click("text=Show my usage")
    expect(again.locator("h1")).to_have_text("This link is no longer valid")


def test_dead_letters_are_offered_again_by_a_button(browse):
    """One, and then the rest; without a script."""
    page = browse("operator", js=False)
    page.goto("/delivery")
    expect(page.locator("text=choosy has refused 2 events for good")).to_be_visible()
    # What a sink said stands there as it said it.
    expect(page.locator("td", has_text="<b>no such model</b>").first).to_be_visible()
    page.click("td button >> nth=0")
    expect(page.locator("[role=status]")).to_contain_text("1 event was put back")
    page.click("text=Offer all 1 of choosy again")
    expect(page.locator("text=No event was refused for good")).to_be_visible()


def test_what_changes_is_shown_as_it_comes(browse, site):
    """Unless somebody has stopped it; the form and what is open stay as they are."""
    page = browse("operator")
    page.clock.install()
    subject = f"live-{datetime.now(UTC):%H%M%S%f}"
    page.goto(f"/?subject={subject}")
    expect(page.locator("#usage")).to_contain_text("Nothing was used")
    page.fill(".pickers [name=subject]", "half written")

    def used(id, tokens):
        sent = [call(f"{subject}-{id}", subject=subject, data={"total_tokens": tokens})]
        answer = httpx.post(f"{site.url}/api/v1/events", json=sent, headers=bearer(site.key))
        assert answer.status_code == 204

    used(1, 4711)
    for _ in range(20):
        page.clock.fast_forward(10_000)
        page.wait_for_timeout(300)
        if "4,711" in page.text_content("#usage"):
            break
    expect(page.locator("#usage .total strong")).to_have_text("4,711")
    assert page.input_value(".pickers [name=subject]") == "half written"
    page.click("text=The numbers as a table")
    page.click("text=Stop showing changes")
    used(2, 1)
    for _ in range(4):
        page.clock.fast_forward(10_000)
        page.wait_for_timeout(300)
    expect(page.locator("#usage .total strong")).to_have_text("4,711")
    page.click("text=Show changes as they come")
    expect(page.locator("#usage .total strong")).to_have_text("4,712")
    assert page.locator("details.numbers").first.get_attribute("open") is not None


def test_all_of_it_works_from_the_keyboard(browse):
    """The first stop leads past the navigation; fields, details and wide tables can be reached."""
    page = browse("operator", size=PHONE)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    reached = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "(e => e.name || e.className || e.textContent.trim().slice(0, 30))(document.activeElement)"
            )
        )
    assert {"meter", "period", "windowSize", "groupBy", "subject", "primary"} <= reached
    page.focus(".pickers [name=period]")
    page.keyboard.press("Tab")
    page.focus("details.numbers summary")
    page.keyboard.press("Enter")
    expect(page.locator("details.numbers table").first).to_be_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "scroll"


def test_numbers_and_dates_are_those_of_the_browser(browse):
    """On the page and on the axis."""
    page = browse("operator", locale="de-DE")
    page.goto("/?period=30d&meter=cost_total")
    assert re.fullmatch(r"\d+,\d\d\xa0\$", page.text_content(".total strong"))
    axis = page.text_content(".chart .wide svg")
    assert re.search(r"\d{1,2}\. [A-Z][a-zä]{2}", axis)
    expect(page.locator("footer")).to_contain_text(re.compile(r"As of \d\d\.\d\d\.\d{4}, \d\d:"))
