"""An operator shows a key once; the browser has a session."""

from __future__ import annotations

from datetime import timedelta
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, urlsplit

import pytest

from llm_metering.access import Sessions

from ..conftest import audit, bearer
from .conftest import OURS, get, text_of


@pytest.fixture
def key(keys):
    """A key that reads."""
    return keys.create("for people", ["read"])


@pytest.fixture
def client(serving, key):
    """A browser, before a server that wants keys."""
    with serving(keys_required=True) as client:
        yield client


def sign_in(client, post, text, **more):
    """Show a key."""
    return post(client, "/login", {"key": text, **more})


def test_who_has_shown_nothing_is_asked_to_sign_in(client):
    """And comes back to the page that was asked for."""
    answer = get(client, "/costs?month=2026-10")
    assert answer.status_code == 303
    target = urlsplit(answer.headers["location"])
    assert target.path == "/login"
    assert parse_qs(target.query) == {"next": ["/costs?month=2026-10"]}
    page = get(client, answer.headers["location"])
    assert page.status_code == 200
    assert 'value="/costs?month=2026-10"' in page.text


def test_a_program_is_told_what_it_is_told_elsewhere(client):
    """Nobody sends it to a page."""
    answer = client.get("/costs", headers={"Accept": "application/json"})
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"


def test_who_shows_a_key_has_a_session_and_not_the_key(client, key, post, home):
    """In a cookie that no script reads, and that says nothing of the key."""
    answer = sign_in(client, post, key[1], next="/events")
    assert (answer.status_code, answer.headers["location"]) == (303, "/events")
    [cookie] = SimpleCookie(answer.headers["set-cookie"]).values()
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "lax", "/")
    assert not cookie["secure"]
    assert key[1].split("_", 2)[2] not in answer.headers["set-cookie"]
    page = get(client, "/events")
    assert page.status_code == 200
    assert "for people" in text_of(page)
    begun = [line for line in audit(home) if line["action"] == "session.begin"]
    assert [line["actor"] for line in begun] == [f"key:{key[0].id}"]


def test_elsewhere_than_on_this_machine_the_cookie_goes_over_https_alone(serving, keys, post):
    """Also if a proxy speaks HTTPS for us."""
    _, text = keys.create("for people", ["read"])
    with serving(keys_required=True) as client:
        client.base_url = "http://meter.example"
        answer = sign_in(client, post, text)
    [cookie] = SimpleCookie(answer.headers["set-cookie"]).values()
    assert cookie["secure"]


def test_the_session_is_for_pages_alone(client, key, post):
    """What is for programs takes the key, and a session is none."""
    answer = sign_in(client, post, key[1])
    [cookie] = SimpleCookie(answer.headers["set-cookie"]).values()
    assert get(client, "/").status_code == 200
    for path in ("/api/v1/meters", "/metrics", "/openapi.json", "/api/v1/events"):
        assert client.get(path).status_code == 401
    assert client.get("/api/v1/meters", headers=bearer(cookie.value)).status_code == 401
    client.cookies.clear()
    assert client.get("/", headers=bearer(cookie.value)).status_code == 401


def test_who_signs_out_is_out(client, key, post):
    """Also if the browser kept the cookie."""
    answer = sign_in(client, post, key[1])
    [cookie] = SimpleCookie(answer.headers["set-cookie"]).values()
    out = post(client, "/logout")
    assert (out.status_code, out.headers["location"]) == (303, "/login")
    assert get(client, "/").status_code == 303
    kept = {"Cookie": f"{cookie.key}={cookie.value}"}
    assert get(client, "/", **kept).status_code == 303


def test_a_session_ends_with_its_key(client, key, keys, post):
    """At once."""
    sign_in(client, post, key[1])
    assert get(client, "/").status_code == 200
    keys.revoke(key[0].id)
    assert get(client, "/").status_code == 303


@pytest.mark.parametrize(
    ("scopes", "bound", "status", "reason"),
    [
        (["ingest"], {}, 403, "wrong scope"),
        (["read"], {"subjects": ["acme"]}, 403, "subject"),
    ],
    ids=["no reader", "of a subject"],
)
def test_a_key_that_may_not_see_everything_signs_nobody_in(
    serving, keys, home, post, scopes, bound, status, reason
):
    """The page says why."""
    _, text = keys.create("narrow", scopes, **bound)
    with serving(keys_required=True) as client:
        answer = sign_in(client, post, text)
        assert answer.status_code == status
        assert "set-cookie" not in answer.headers
        assert "This key" in text_of(answer)
    assert [line["reason"] for line in audit(home)] == [reason]


def test_a_wrong_key_is_told_nothing(client, key, keys, post, home):
    """Whatever is wrong with it, and the key is not on the page."""
    gone, revoked = keys.create("gone", ["admin"])
    keys.revoke(gone.id)
    wrong = ["", "x", "lmk_0123456789ab_" + "x" * 43, revoked, key[1][:-1], "lms_" + "x" * 43]
    pages = set()
    for text in wrong:
        answer = sign_in(client, post, text)
        assert answer.status_code == 401
        assert not text or len(text) < 3 or text not in answer.text
        pages.add(text_of(answer))
    assert len(pages) == 1
    assert len([line for line in audit(home) if line["action"] == "refused"]) == len(wrong)


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost.evil.example"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
        {},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/login", "/logout", "/delivery/retry", "/customers/link"])
def test_a_form_of_another_site_does_nothing(serving, keys, home, headers, path):
    """With our cookie or where no key is wanted."""
    with serving() as client:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = client.post(path, content="subject=acme&key=x", headers={**kind, **headers})
        assert answer.status_code == 403
    assert [line["reason"] for line in audit(home)] == ["origin"]


def test_a_browser_that_says_less_is_believed_by_its_origin(client, key, post):
    """Older ones send no `Sec-Fetch-Site`, nor do those that come by plain HTTP."""
    data = {"key": key[1]}
    answer = client.post(
        "/login", data=data, headers={"Origin": "http://localhost"}, follow_redirects=False
    )
    assert answer.status_code == 303


def test_what_is_no_form_is_refused(client, home):
    """Too large a one, one that is something else, or none."""
    kind = {"Content-Type": "application/x-www-form-urlencoded", **OURS}
    for content, headers, status in (
        (b"key=" + b"x" * 70_000, kind, 413),
        (b"\xff", kind, 400),
        (b"&".join(b"a%d=1" % n for n in range(60)), kind, 400),
        (b"{}", {"Content-Type": "application/json", **OURS}, 415),
    ):
        assert client.post("/login", content=content, headers=headers).status_code == status
    assert client.post("/login", content=b"key=%ff", headers=kind).status_code == 400


def test_nobody_is_sent_to_another_site_by_signing_in(client, key, post):
    """Whatever a link says."""
    for onwards in ("https://evil.example", "//evil.example", "/\\evil.example"):
        assert sign_in(client, post, key[1], next=onwards).headers["location"] == "/"


def test_half_a_day_later_the_key_is_wanted_again(serving, keys, home, post, monkeypatch):
    """A session that nobody ended ends."""
    _, text = keys.create("for people", ["read"])
    with serving(keys_required=True) as client:
        sign_in(client, post, text)
        assert get(client, "/").status_code == 200
        now = Sessions._now
        later = lambda self: now(self) + timedelta(hours=12)  # noqa: E731
        monkeypatch.setattr(Sessions, "_now", later)
        assert get(client, "/").status_code == 303
