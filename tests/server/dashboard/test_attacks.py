"""No page shows anybody what is of others, whatever is asked for and however."""

from __future__ import annotations

import re
from datetime import timedelta
from urllib.parse import quote

import pytest
from fastapi.routing import APIRoute

from ..conftest import PLANS, audit, bearer, event
from .conftest import FORM, PAGE, call, get

PUBLIC = {
    "GET /login",
    "POST /login",
    "GET /static/{name}",
    "GET /portal/link",
    "POST /portal/link",
}
READ = {
    "GET /",
    "GET /usage.csv",
    "GET /costs",
    "GET /balances",
    "GET /events",
    "GET /delivery",
}
ADMIN = {
    "POST /delivery/retry",
    "GET /customers",
    "POST /customers/link",
    "POST /customers/revoke",
}
PORTAL = {
    "GET /portal",
    "GET /portal/usage.csv",
    "GET /portal/counting",
    "GET /portal/bill",
    "GET /portal/bill.csv",
    "POST /portal/leave",
}
ANYBODY = {"POST /logout"}
"""Who has a session, or none any more."""

FIELDS = {
    "POST /delivery/retry": {"key": "x"},
    "POST /customers/link": {"subject": "globex"},
    "POST /customers/revoke": {"id": "x"},
}
SECRETS = (
    "globex",
    "secret-model",
    "471147114",
    "471,147,114",
    "secret-reason",
    "0.471",
    "Traceback",
)
"""What is of others, or of nobody but the operator."""


def pages(client):
    """Every page there is, as method and path; what is in the API's document is no page."""
    return [
        f"{method} {route.path}"
        for included in client.app.routes
        for route in getattr(getattr(included, "original_router", None), "routes", [])
        if isinstance(route, APIRoute) and not route.include_in_schema
        for method in sorted(route.methods)
    ]


def ask(client, page, fields=None, **headers):
    """Ask for a page, or send its form."""
    method, path = page.split(" ")
    path = path.replace("{name}", "dashboard.css")
    if method == "GET":
        return get(client, path, **headers)
    return client.post(
        path,
        data=FIELDS.get(page, {}) if fields is None else fields,
        headers={**FORM, **headers},
        follow_redirects=False,
    )


def test_each_page_is_in_the_table(client):
    """So that none is added without saying who may see it."""
    assert sorted(pages(client)) == sorted(PUBLIC | READ | ADMIN | PORTAL | ANYBODY)


def test_nobody_sees_a_page_without_a_key(serving, keys):
    """But those that ask for one, and style and script."""
    keys.create("any", ["admin"])
    with serving(keys_required=True) as client:
        for page in pages(client):
            answer = ask(client, page)
            if page in PUBLIC:
                assert answer.status_code in (200, 401), page
            else:
                assert answer.status_code in (303, 401), page
                assert answer.headers.get("location", "/login").startswith("/login")
            assert "Overview</a>" not in answer.text


@pytest.mark.parametrize("scope", ["ingest", "read", "admin"])
def test_a_key_without_the_scope_sees_no_page(serving, keys, scope):
    """Each page with each key."""
    _, key = keys.create("narrow", [scope])
    may = {"ingest": set(), "read": READ, "admin": READ | ADMIN}[scope]
    with serving(keys_required=True) as client:
        for page in set(pages(client)) - PUBLIC - ANYBODY:
            status = ask(client, page, **bearer(key)).status_code
            assert (status == 403) == (page not in may), (page, status)


def test_a_key_of_a_subject_sees_no_page_of_everybody(serving, keys):
    """Not even of its own subject: a page shows the others beside it."""
    _, key = keys.create("bound", ["read"], subjects=["acme"])
    with serving(keys_required=True) as client:
        for page in sorted(READ | ADMIN | PORTAL):
            answer = ask(client, page, **bearer(key))
            assert answer.status_code == 403, page
            assert get(client, f"{page.split(' ')[1]}?subject=acme", **bearer(key)).status_code in (
                *(403, 405),
            )


@pytest.fixture
def two_customers(serving, keys, tokens, living, tmp_path, home):
    """A server with usage, grants, plans and bills of acme and of globex, and a browser that is acme's."""
    _, admin = keys.create("everything", ["admin"])
    plans = tmp_path / "plans.toml"
    plans.write_text(
        PLANS + PLANS.split("[[subjects]]")[1].join(["[[subjects]]", ""]).replace("acme", "globex")
    )
    with serving(keys_required=True, limits="on", plans=plans) as client:
        sent = [
            call("1", data={"total_tokens": 111}),
            call(
                "2", subject="globex", data={"model": "secret-model", "total_tokens": 471_147_114}
            ),
            event(
                "3", subject="globex", data={"model": "secret-model", "total_tokens": 471_147_114}
            ),
        ]
        answer = client.post("/api/v1/events", json=sent, headers=bearer(admin))
        assert answer.status_code == 204
        for subject, amount in (("acme", 1000), ("globex", 471_147_114)):
            granted = {"subject": subject, "amount": amount}
            assert client.post("/api/v1/grants", json=granted, headers=bearer(admin)).is_success
        assert living[0].sources.flush(30)
        _, text = tokens.create("acme")
        client.headers.update(bearer(text))
        yield client


def test_a_customers_pages_hold_no_other_subject(two_customers):
    """Nor anything of the operator's; in all of their source, and in the files that they offer."""
    asked = 0
    for page in sorted(PORTAL - {"POST /portal/leave"}):
        answer = ask(two_customers, page)
        assert answer.status_code == 200, page
        for secret in SECRETS:
            assert secret not in answer.text, (page, secret)
        asked += 1
    assert asked == 5
    shown = get(two_customers, "/portal")
    assert "acme" in shown.text
    assert ">111<" in shown.text
    # Helsinki has a sink in it.
    rest = re.sub("(?s)<datalist.*?</datalist>", "", shown.text)
    for operators in ("/costs", "/events", "/delivery", "/customers", "margin", "sink"):
        assert operators not in rest


def test_a_customer_sees_no_page_of_the_operators(two_customers, home):
    """Nor sends one of its forms."""
    for page in sorted(READ | ADMIN):
        answer = ask(two_customers, page)
        assert answer.status_code == 403, page
        for secret in SECRETS:
            assert secret not in answer.text
    refused = [line["reason"] for line in audit(home) if line["action"] == "refused"]
    assert refused == ["wrong scope"] * len(READ | ADMIN)


HOSTILE = [
    "globex",
    "acme&subject=globex",
    "' OR '1'='1",
    "a\r\nSet-Cookie: x=y",
    "{{7*7}}{% raw %}",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "9" * 400,
    "x" * 5000,
]
OF_A_VIEW = [
    *("meter", "period", "from", "to", "windowSize", "windowTimeZone", "groupBy", "subject"),
    *("filterGroupBy[model]", "filterGroupBy[subject]", "key", "value"),
]
OF_CUSTOMERS = {
    "/portal": [*OF_A_VIEW, "month", "id"],
    "/portal/usage.csv": ["subject", "meter", "groupBy", "filterGroupBy[subject]"],
    "/portal/bill": ["month", "subject"],
    "/portal/bill.csv": ["month", "subject"],
    "/portal/counting": ["subject"],
    "/portal/link": ["code"],
}
OF_OPERATORS = {
    "/": OF_A_VIEW,
    "/usage.csv": ["subject", "meter", "groupBy"],
    "/costs": ["month"],
    "/balances": ["subject", "page"],
    "/events": ["subject", "id", "from", "to", "windowTimeZone"],
    "/delivery": ["retried"],
    "/customers": ["subject"],
    "/login": ["next"],
}
BAD = ("<script>alert", "<img src=x", "49{%", "root:", "Traceback")


def with_each(client, paths, text):
    """Each page with the text in each of its parameters, and what was asked for."""
    for path, names in paths.items():
        for name in names:
            yield (
                (path, name),
                client.get(path, params={name: text}, headers=PAGE, follow_redirects=False),
            )


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:30])
def test_no_parameter_leads_a_customer_to_what_is_of_others(two_customers, text):
    """It is a name like another, or refused."""
    for asked, answer in with_each(two_customers, OF_CUSTOMERS, text):
        assert answer.status_code < 500, asked
        assert "set-cookie" not in answer.headers
        # What was asked for may be said again.
        body = answer.text.replace("acme&amp;subject=globex", "").replace("subject%3Dglobex", "")
        for secret in (*(SECRETS[1:] if "globex" in text else SECRETS), *BAD):
            assert secret not in body, (asked, secret)


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:30])
def test_a_name_is_a_name_on_an_operators_page_too(serving, living, text):
    """In an event, in the address, in a form: nothing obeys it."""
    named = text[:1000]
    data = {"model": named, "provenance": named, "status": named, "flags": [named]}
    with serving(limits="on") as client:
        answer = client.post("/api/v1/events", json=[call("1", subject=named, data=data)])
        assert answer.status_code in (204, 400)
        assert living[0].sources.flush(30)
        for asked, answer in with_each(client, OF_OPERATORS, text):
            assert answer.status_code < 500, asked
            assert "set-cookie" not in answer.headers
            # In a file of another kind a name stands as it is.
            if answer.headers["content-type"].startswith("text/html"):
                assert not [bad for bad in BAD if bad in answer.text], asked
        made = client.post("/customers/link", data={"subject": text, "life": "day"}, headers=FORM)
        assert made.status_code in (200, 400)
        assert not [bad for bad in BAD if bad in made.text]


@pytest.mark.parametrize(
    "path",
    [
        "/static/../pages.py",
        "/static/%2e%2e/pages.py",
        "/static/..%2fpages.py",
        "/static/dashboard.css/",
        "/static/",
        "/static/dashboard.js.map",
        "/static//etc/passwd",
    ],
)
def test_nothing_but_style_and_script_lies_open(serving, keys, path):
    """Whatever a path looks like."""
    keys.create("any", ["admin"])
    with serving(keys_required=True) as client:
        answer = client.get(path, follow_redirects=False)
        assert answer.status_code in (401, 404)
        assert "import" not in answer.text


def test_every_page_is_closed_to_what_is_not_ours(two_customers, serving):
    """It loads nothing from elsewhere, runs nothing that stands in it, and is framed by nobody."""
    for page in ("GET /portal", "GET /portal/counting", "GET /portal/bill", "GET /portal/link"):
        answer = ask(two_customers, page)
        policy = dict(
            each.strip().split(" ", 1)
            for each in answer.headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["form-action"] == "'self'"
        assert "unsafe" not in str(policy)
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert not re.search(r"<script(?! src=\"/static/)", answer.text)
        assert not re.search(r"\son\w+=|\sstyle=|javascript:", answer.text)
        assert not re.findall(r'(?:src|href|action)="(?!/|#|\?|&)', answer.text)


def test_style_and_script_are_kept_by_browsers_under_an_address_of_their_own(client):
    """Another one when they change."""
    page = get(client, "/").text
    [style] = re.findall(r'href="(/static/dashboard.css\?v=[0-9a-f]{12})"', page)
    answer = client.get(style)
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "set-cookie" not in answer.headers


def test_a_token_that_shows_some_meters_shows_nothing_else(serving, tokens, tmp_path, living):
    """Neither a bill nor a balance, nor how many calls there were."""
    plans = tmp_path / "plans.toml"
    plans.write_text(PLANS)
    _, text = tokens.create("acme", meters=["tokens_output"])
    with serving(limits="on", plans=plans) as client:
        assert client.post("/api/v1/events", json=[call("1")]).is_success
        assert client.post("/api/v1/grants", json={"subject": "acme", "amount": 5}).is_success
        assert living[0].sources.flush(30)
        page = get(client, "/portal", **bearer(text))
        assert page.status_code == 200
        assert "<strong>20</strong>" in page.text
        for more in ("tokens_total", "What is left", "Cost of", "reported"):
            assert more not in page.text
        for path in ("/portal?meter=tokens_total", "/portal/usage.csv?meter=cost_total"):
            assert get(client, path, **bearer(text)).status_code == 400
        for path in ("/portal/bill", "/portal/bill.csv"):
            assert get(client, path, **bearer(text)).status_code == 403


def test_a_portal_token_that_is_over_shows_nothing(serving, tokens):
    """The page says where to get another one, and nobody is sent to the operator's door."""
    token, text = tokens.create("acme", life=timedelta(minutes=1))
    with serving(keys_required=True) as client:
        paths = ("/portal", "/portal/counting", "/portal/usage.csv")
        for path in paths:
            assert get(client, path, Cookie=f"llm_metering_portal={text}").status_code == 200
        tokens.revoke(id=token.id)
        for path in paths:
            answer = get(client, path, Cookie=f"llm_metering_portal={text}")
            assert answer.status_code == 401
            assert "Open it again" in answer.text
            assert "login" not in answer.text


def test_the_cookie_of_one_is_nothing_in_the_place_of_the_other(serving, keys, tokens, post):
    """A customer's is no operator's, and an operator's no customer's."""
    _, key = keys.create("people", ["admin"])
    _, text = tokens.create("acme")
    with serving(keys_required=True) as client:
        for cookie in (
            f"llm_metering_session={text}",
            f"llm_metering_session={key}",
            f"llm_metering_portal={text}",
        ):
            for path in ("/", "/events", "/customers"):
                assert get(client, path, Cookie=cookie).status_code == 303
        session = post(client, "/login", {"key": key}).cookies["llm_metering_session"]
        client.cookies.clear()
        for cookie in (
            f"llm_metering_portal={session}",
            f"llm_metering_portal={key}",
            f"llm_metering_session={session}",
        ):
            answer = get(client, "/portal", Cookie=cookie)
            assert answer.status_code in (401, 403), cookie
            assert quote("acme") not in answer.text
