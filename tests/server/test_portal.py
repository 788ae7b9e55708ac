"""What customers see with a token, a link, a cookie; and when no more."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie

import pytest

from llm_metering.access import PortalTokens
from llm_metering.subjects import sign_subject

from .conftest import EVENTS, audit, bearer, event

TOKENS = "/api/v1/portal/tokens"
SESSION = "/api/v1/portal/session"
QUERY = "/api/v1/portal/meters/tokens_total/query"
SECRET = "a secret that is long enough to sign with"


@pytest.fixture
def filled(serving, keys, living):
    """A server with 120 tokens of acme and 240 of globex, and the client of who may do everything."""
    _, key = keys.create("everything", ["admin"])
    with serving(keys_required=True, key=key, subject_token_secrets=[SECRET]) as client:
        sent = [event("1"), event("2", subject="globex"), event("3", subject="globex")]
        assert client.post(EVENTS, json=sent).status_code == 204
        assert living[0].sources.flush(30)
        yield client


def made(client, subject="acme", **more):
    """A portal token."""
    response = client.post(TOKENS, json={"subject": subject, **more})
    assert response.status_code == 200
    return response.json()


def code_of(client, token):
    """A code for a link."""
    response = client.post(f"{TOKENS}/{token['id']}/code")
    assert response.status_code == 200
    made = response.json()
    page = client.get(made["path"], headers={"Accept": "text/html"})
    assert (page.status_code, made["code"] in page.text) == (200, True)
    return made["code"]


def values(response):
    """What a meter says, by subject."""
    assert response.status_code == 200
    return {row["subject"]: row["value"] for row in response.json()["data"]}


def test_a_token_shows_the_usage_of_its_subject_alone(filled):
    """Whatever is asked for; also as CSV."""
    token = made(filled)
    headers = bearer(token["token"])

    assert values(filled.get(QUERY, headers=headers)) == {"acme": 120}
    assert values(filled.get(QUERY, headers=headers, params={"groupBy": "subject"})) == {
        "acme": 120
    }
    assert filled.get(QUERY, headers=headers, params={"subject": "globex"}).status_code == 400
    response = filled.get(QUERY, headers={**headers, "Accept": "text/csv"})
    assert response.headers["content-type"].startswith("text/csv")
    assert [line.split(",")[-2:] for line in response.text.splitlines()] == [
        ["subject", "value"],
        ["acme", "120"],
    ]


def test_a_token_shows_the_meters_it_is_for(filled):
    """All but money and credits, if nothing else is said: what a call cost is the seller's business."""
    whole, narrow = made(filled), made(filled, allowedMeterSlugs=["tokens_input", "cost_total"])

    def status(token, slug):
        path = f"/api/v1/portal/meters/{slug}/query"
        return filled.get(path, headers=bearer(token["token"])).status_code

    assert [status(whole, slug) for slug in ("tokens_total", "calls_total")] == [200, 200]
    assert [status(whole, slug) for slug in ("cost_total", "credits_total")] == [403, 403]
    assert [status(narrow, slug) for slug in ("tokens_input", "cost_total")] == [200, 200]
    assert [status(narrow, slug) for slug in ("tokens_total", "nowhere")] == [403, 404]
    response = filled.get(SESSION, headers=bearer(narrow["token"]))
    assert response.json()["meters"] == ["cost_total", "tokens_input"]


def test_a_link_is_exchanged_for_a_cookie_once(filled, home):
    """The cookie is no script's and no other site's, and goes nowhere but to the portal."""
    token = made(filled)
    code = code_of(filled, token)
    del filled.headers["Authorization"]

    response = filled.post(SESSION, json={"code": code})
    again = filled.post(SESSION, json={"code": code})

    assert response.json()["subject"] == "acme"
    assert (again.status_code, "set-cookie" in again.headers) == (401, False)
    cookies = [
        cookie
        for line in response.headers.get_list("set-cookie")
        for cookie in SimpleCookie(line).values()
    ]
    assert [cookie["path"] for cookie in cookies] == ["/api/v1/portal", "/portal"]
    for cookie in cookies:
        assert cookie.value == token["token"]
        assert (cookie["httponly"], cookie["samesite"]) == (True, "strict")
        assert 3500 < int(cookie["max-age"]) <= 3600
    assert values(filled.get(QUERY)) == {"acme": 120}
    # Elsewhere the cookie is nothing, even if somebody sends it.
    sent = {"Cookie": f"{cookie.key}={cookie.value}"}
    assert filled.get("/api/v1/meters", headers=sent).status_code == 401
    assert code not in json.dumps(audit(home))

    assert filled.delete(SESSION).status_code == 204
    assert filled.get(QUERY).status_code == 401


@pytest.mark.parametrize(
    ("origin", "is_secure"),
    [
        ("http://localhost", False),
        ("http://127.0.0.1:8787", False),
        ("https://localhost", True),
        ("http://usage.example", True),
    ],
)
def test_the_cookie_goes_over_https_alone_but_on_this_machine(filled, origin, is_secure):
    """Also behind a proxy, of which nobody knows what it speaks."""
    code = code_of(filled, made(filled))
    response = filled.post(f"{origin}{SESSION}", json={"code": code})
    assert ("; secure" in response.headers["set-cookie"].lower()) is is_secure


def test_a_customer_who_asks_too_much_waits(serving, tokens, keys, home):
    """By the token; another one goes on."""
    _, text = tokens.create("acme")
    _, other = tokens.create("acme")
    with serving(keys_required=True, portal_requests_per_minute=12) as client:
        statuses = [client.get(SESSION, headers=bearer(text)).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert client.get(SESSION, headers=bearer(other)).status_code == 200
    assert [line["reason"] for line in audit(home)] == ["rate"]


@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        pytest.param("code=CODE", "application/x-www-form-urlencoded", 415, id="a form"),
        pytest.param('{"code": "CODE"}', "text/plain", 415, id="plain text"),
        pytest.param('{"code": "CODE"}', None, 415, id="no type"),
        pytest.param('{"code": ["CODE"]}', "application/json", 400, id="a list"),
        pytest.param("[" * 20_000, "application/json", 400, id="a deep one"),
        pytest.param('{"code": "wrong"}', "application/json", 401, id="another code"),
        pytest.param('{"code": "\\ud800"}', "application/json", 400, id="half a character"),
    ],
)
def test_no_other_site_exchanges_a_code(filled, content, media_type, status):
    """A page can make a browser send a form, or text; and what is refused uses no code up."""
    code = code_of(filled, made(filled))
    headers = {} if media_type is None else {"Content-Type": media_type}

    response = filled.post(SESSION, content=content.replace("CODE", code), headers=headers)

    assert (response.status_code, "set-cookie" in response.headers) == (status, False)
    assert filled.post(SESSION, json={"code": code}).status_code == 200


def test_what_is_taken_back_shows_nothing_any_more(filled):
    """One, or all of a subject; a cookie, a token, a link that nobody has opened yet."""
    first, second, other = made(filled), made(filled), made(filled, "globex")
    link = code_of(filled, second)
    assert filled.post(SESSION, json={"code": code_of(filled, first)}).status_code == 200

    assert filled.post(f"{TOKENS}/invalidate", json={"id": first["id"]}).status_code == 204
    admin = filled.headers.pop("Authorization")
    assert filled.get(QUERY).status_code == 401
    assert values(filled.get(QUERY, headers=bearer(second["token"]))) == {"acme": 120}

    filled.headers["Authorization"] = admin
    assert filled.post(f"{TOKENS}/invalidate", json={"subject": "acme"}).status_code == 204
    assert filled.get(QUERY, headers=bearer(second["token"])).status_code == 401
    # Also for who has an older cookie.
    assert filled.post(SESSION, json={"code": link}).status_code == 401
    assert values(filled.get(QUERY, headers=bearer(other["token"]))) == {"globex": 240}
    assert filled.post(f"{TOKENS}/{second['id']}/code").status_code == 404
    expired = {each["id"]: each["expired"] for each in filled.get(TOKENS).json()}
    assert expired == {first["id"]: True, second["id"]: True, other["id"]: False}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"subject": ""},
        {"subject": " "},
        {"subject": "acme", "allowedMeterSlugs": []},
        {"subject": "acme", "allowedMeterSlugs": ["nowhere"]},
        {"subject": "acme", "expiresAt": "2020-01-01T00:00:00Z"},
        {"subject": "acme", "expiresAt": "2999-01-01T00:00:00Z"},
        {"subject": "acme", "expiresAt": "2026-12-24T00:00:00"},
        {"subject": "acme", "forever": True},
        {"subject": "a" * 2000},
    ],
    ids=str,
)
def test_a_token_that_makes_no_sense_is_not_made(filled, given):
    """Of nobody, for nothing, for no time or ever."""
    assert filled.post(TOKENS, json=given).status_code == 400
    assert filled.get(TOKENS).json() == []


def test_what_is_taken_back_is_named(filled):
    """One token, or a subject."""
    for wrong in ({}, {"id": "x", "subject": "acme"}, {"subject": None}):
        assert filled.post(f"{TOKENS}/invalidate", json=wrong).status_code == 400
    assert filled.post(f"{TOKENS}/invalidate", json={"id": "x"}).status_code == 204
    assert filled.post(f"{TOKENS}/x/code").status_code == 404


def test_a_token_is_validated(filled, home):
    """A portal token and a signed subject: whether it is good, for whom, until when, or why not."""

    def validated(token, **more):
        response = filled.post("/api/v1/tokens/validate", json={"token": token, **more})
        assert response.status_code == 200
        return response.json()

    token = made(filled, allowedMeterSlugs=["tokens_total"])
    assert validated(token["token"]) == {
        "valid": True,
        "kind": "portal",
        "subject": "acme",
        "allowedMeterSlugs": ["tokens_total"],
        "expiresAt": token["expiresAt"],
    }
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
    signed = sign_subject("acme", SECRET, audience="shop", expires=expires)
    assert validated(signed, audience="shop") == {
        "valid": True,
        "kind": "subject",
        "subject": "acme",
        "expiresAt": expires.isoformat().replace("+00:00", "Z"),
    }
    assert validated(signed)["reason"] == "wrong_audience"
    other = sign_subject("acme", "another secret that is long enough")
    assert validated(other)["reason"] == "unknown_key"
    assert validated("nonsense") == {"valid": False, "kind": "subject", "reason": "malformed"}
    assert validated(token["token"][:-1])["reason"] == "malformed"
    past = PortalTokens(home, clock=lambda: time.time() - 3600)
    _, old = past.create("acme", life=timedelta(minutes=1))
    past.close()
    assert validated(old) == {"valid": False, "kind": "portal", "reason": "expired"}


def test_the_audit_log_has_what_was_done_to_tokens_and_not_the_tokens(filled, home):
    """Who made, linked and took back which."""
    token = made(filled)
    code = code_of(filled, token)
    filled.post(f"{TOKENS}/invalidate", json={"id": token["id"]})
    lines = [line for line in audit(home) if line["action"].startswith("token.")]
    assert [(line["action"], line["token"]) for line in lines] == [
        ("token.create", token["id"]),
        ("token.code", token["id"]),
        ("token.revoke", token["id"]),
    ]
    assert all(line["actor"].startswith("key:") for line in lines)
    written = json.dumps(audit(home))
    assert token["token"] not in written
    assert code not in written
