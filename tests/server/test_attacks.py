"""Who may not is refused: nothing is stored, nothing is told, and it is in the audit log."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from datetime import timedelta
from urllib.parse import quote

import pytest

from llm_metering.access import PortalTokens
from llm_metering.subjects import sign_subject

from .conftest import EVENTS, PLANS, audit, bearer, event

PUBLIC = {"/healthz", "/readyz"}
SESSION = "/api/v1/portal/session"
"""Who posts a code there has nothing else to show."""
JSON = {"Content-Type": "application/json"}


def post(client, document, **headers):
    """Send a document."""
    return client.post(EVENTS, content=json.dumps(document), headers={**JSON, **headers})


def routes(client):
    """Every operation there is, as method and path."""
    paths = client.app.openapi()["paths"]
    return [
        (method.upper(), re.sub(r"\{[^}]*\}", "x", path))
        for path, operations in paths.items()
        for method in operations
    ]


def bad_credentials(keys, tokens, home):
    """Authorization headers that let nobody in, by what the audit log says of them."""
    revoked, text = keys.create("revoked", ["admin"])
    keys.revoke(revoked.id)
    replaced, old = keys.create("replaced", ["admin"])
    keys.rotate(replaced.id)
    _, good = keys.create("good", ["admin"])
    prefix, id, secret = good.split("_", 2)  # a secret may hold an underscore
    past = PortalTokens(home, clock=lambda: time.time() - 3600)
    _, expired = past.create("acme", life=timedelta(minutes=1))
    past.close()
    gone, taken_back = tokens.create("acme")
    tokens.revoke(id=gone.id)
    _, right = tokens.create("acme")
    head, claims, code = right.split(".")
    return {
        "no key": None,
        "key revoked": f"Bearer {text}",
        "key expired": f"Bearer {old}",
        "key wrong_secret": f"Bearer {prefix}_{id}_{secret[::-1]}",
        "key unknown": f"Bearer lmk_0123456789ab_{secret}",
        "key malformed": f"Bearer {good}x",
        "token expired": f"Bearer {expired}",
        "token revoked": f"Bearer {taken_back}",
        "token wrong_signature": f"Bearer {head}.{claims}.{code[::-1]}",
        "token malformed": f"Bearer {head}.{claims}",
    }


def test_no_route_lets_anybody_in_without_a_key_that_holds(serving, keys, tokens, home):
    """With no key, and with ten kinds of bad ones, on every route, known or not."""
    bad = bad_credentials(keys, tokens, home)
    answers = set()
    with serving(keys_required=True) as client:
        asked = [*routes(client), ("GET", "/openapi.json"), ("GET", "/nowhere"), ("DELETE", EVENTS)]
        assert ("POST", EVENTS) in asked
        for method, path in asked:
            if path in PUBLIC or (method, path) == ("POST", SESSION):
                continue
            for header in bad.values():
                headers = {} if header is None else {"Authorization": header}
                response = client.request(
                    method, path, content=json.dumps(event()), headers={**JSON, **headers}
                )
                assert (response.status_code, path) == (401, path)
                assert response.headers["WWW-Authenticate"] == "Bearer"
                document = response.json()
                document.pop("instance")
                answers.add(json.dumps(document))
        assert len(client.app.state.desk.sources.meters()) == 1

    # All are told the same, and the log has what was wrong.
    assert len(answers) == 1
    reasons = {" ".join(line["reason"].split(" ")[:2]) for line in audit(home)}
    assert reasons == set(bad)
    written = json.dumps(audit(home))
    assert not any(header.split()[1] in written for header in bad.values() if header)
    assert not (home / "ledger.db").exists()


@pytest.mark.parametrize("scopes", [["read"], ["ingest"]])
def test_a_key_does_what_its_scopes_say(serving, keys, recorded, home, scopes):
    """One that reads records nothing, and one that records reads nothing."""
    _, key = keys.create("narrow", scopes)
    with serving(keys_required=True, key=key) as client:
        sent = post(client, event()).status_code
        read = client.get("/metrics").status_code

    assert (sent, read) == ((403, 200) if scopes == ["read"] else (204, 403))
    assert len(recorded()) == (0 if scopes == ["read"] else 1)
    assert [line["reason"] for line in audit(home)] == ["wrong scope"]


def test_a_customer_with_a_portal_token_sends_nothing(serving, tokens, recorded):
    """And sees nothing of the operator's."""
    _, text = tokens.create("acme")
    with serving(keys_required=True, key=text) as client:
        assert post(client, event()).status_code == 403
        assert client.get("/metrics").status_code == 403

    assert recorded() == {}


@pytest.mark.parametrize(
    ("bound", "sent", "reason"),
    [
        pytest.param({"sources": ["batch"]}, event(), "source", id="another source"),
        pytest.param({"subjects": ["globex"]}, event(), "subject", id="another subject"),
        pytest.param(
            {"subjects": ["acme"]}, event(subject="Acme"), "subject", id="the same in capitals"
        ),
        pytest.param({"sources": ["app"]}, event(source="app/"), "source", id="with a slash"),
        pytest.param({"sources": ["app"]}, event(source="app/../app"), "source", id="a path"),
    ],
)
def test_a_key_bills_nobody_else(serving, keys, recorded, home, bound, sent, reason):
    """Not with one event among a hundred, of which none is recorded then."""
    _, key = keys.create("bound", ["ingest"], **bound)
    fitting = event(
        source=next(iter(bound.get("sources", ["app"]))),
        subject=next(iter(bound.get("subjects", ["acme"]))),
    )
    many = [fitting | {"id": str(number)} for number in range(99)]
    with serving(keys_required=True, key=key) as client:
        response = post(client, [*many, sent | {"id": "bad"}])

        assert response.status_code == 403
        assert response.json()["event"] == 99
        assert recorded(fitting["source"]) == recorded(sent["source"]) == {}
    assert [line["reason"] for line in audit(home)] == [reason]
    assert audit(home)[0]["actor"].startswith("key:")


def test_a_key_for_signed_subjects_makes_none_up(serving, keys, recorded, home):
    """It bills whom a token names that was signed for its source, and nobody else; nor reserves for one."""
    secret = "a secret that is long enough to sign with"
    _, key = keys.create("a program of others", ["ingest"], signed_subjects=True)
    signed = sign_subject("acme", secret, audience="app")
    with serving(
        keys_required=True, key=key, subject_token_secrets=[secret], limits="on"
    ) as client:
        assert post(client, event("1")).status_code == 403
        assert post(client, [event("2", subject=signed), event("3")]).status_code == 403
        assert post(client, event("4", subject=sign_subject("acme", secret))).status_code == 403
        assert post(client, event("5", subject=signed)).status_code == 204
        for what in ("check", "reserve"):
            body = {"subject": "acme", "amount": 1}
            assert client.post(f"/api/v1/{what}", json=body).status_code == 403
        assert recorded() == {"5": event("5")}
    assert Counter(line["reason"] for line in audit(home)) == {
        "unsigned": 4,
        "subject wrong_audience": 1,
    }


def test_a_key_takes_no_id_of_another_ones(serving, keys, recorded):
    """What the first has recorded stays; the second is told no more than that it is taken."""
    _, first = keys.create("first", ["ingest"])
    _, second = keys.create("second", ["ingest"])
    with serving(keys_required=True) as client:
        assert post(client, event("1"), **bearer(first)).status_code == 204
        response = post(client, event("1", subject="globex"), **bearer(second))

        assert response.status_code == 409
        assert "acme" not in response.text
        assert recorded() == {"1": event("1")}


@pytest.mark.parametrize(
    "text",
    [
        "../../etc/passwd",
        "'; DROP TABLE events; --",
        "a' OR '1'='1",
        "acme\r\nX-Injected: yes",
        "<script>alert(1)</script>",
        "${jndi:ldap://x}",
        "%00%2e%2e%2f",
        "\u202eemca",
    ],
)
def test_names_are_names_whatever_they_look_like(client, recorded, home, text):
    """In an id, a source, a subject, a type, a model: nothing obeys them."""
    sent = event(text, subject=text, type=text, data={"model": text, "total_tokens": 1})

    response = post(client, sent)

    assert response.status_code == 204
    assert "x-injected" not in {name.lower() for name in response.headers}
    assert recorded() == {text: sent}
    assert sorted(path.name for path in home.parent.iterdir()) == ["home"]
    response = post(client, event("2", source=text))
    assert response.status_code in (204, 400)
    assert sorted(path.name for path in home.parent.iterdir()) == ["home"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/events/../../metrics",
        "//metrics",
        "/metrics/",
        "/api/v1/events%2f",
        "/%2e%2e/metrics",
    ],
)
def test_no_path_leads_around_the_gate(serving, keys, path):
    """Written in whatever way."""
    keys.create("any", ["admin"])
    with serving() as client:
        assert client.get(path).status_code == 401


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ",
        "bearer lmk_",
        "Basic bG1rOg==",
        "Bearer a b c",
        "lmk_x",
        "Bearer \x7f",
        "",
    ],
)
def test_strange_authorizations_are_no_keys(serving, header):
    """And no errors of ours."""
    with serving(keys_required=True) as client:
        assert post(client, event(), Authorization=header).status_code == 401


def test_a_page_of_another_site_reaches_no_server_of_this_machine(serving, recorded, home):
    """Where no key is wanted, its browser comes under that site's name, or without a type of ours."""
    with serving(hosts=("meter.internal",)) as client:
        assert post(client, event(), Host="evil.example").status_code == 403
        assert post(client, event(), Host="evil.example:8787").status_code == 403
        assert post(client, event(), Host="localhost.evil.example").status_code == 403
        assert client.post(EVENTS, content=json.dumps(event())).status_code == 415
        assert client.options(EVENTS, headers={"Origin": "https://evil.example"}).status_code == 405
        for host in ("localhost", "127.0.0.1:8787", "[::1]:8787", "[::1]", "meter.internal:80"):
            assert post(client, event(host), Host=host).status_code == 204
        assert len(recorded()) == 5
    assert [line["reason"] for line in audit(home)] == ["host"] * 3


def test_with_the_first_key_nobody_goes_without(serving, keys, home):
    """And it stays so when the last one is taken back."""
    with serving() as client:
        assert client.get("/metrics").status_code == 200
        made, key = keys.create("first", ["admin"])
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers=bearer(key)).status_code == 200
        keys.revoke(made.id)
        assert client.get("/metrics", headers=bearer(key)).status_code == 401
        assert client.get("/metrics").status_code == 401


def test_a_key_that_goes_too_fast_waits(serving, keys, home):
    """Others do not."""
    _, slow = keys.create("slow", ["ingest"], requests_per_minute=6)
    _, fast = keys.create("fast", ["ingest"])
    with serving(keys_required=True) as client:
        assert post(client, event("1"), **bearer(slow)).status_code == 204
        response = post(client, event("2"), **bearer(slow))
        assert response.status_code == 429
        assert 1 <= int(response.headers["Retry-After"]) <= 11
        for number in range(20):
            assert post(client, event(str(number + 3)), **bearer(fast)).status_code == 204
    assert [line["reason"] for line in audit(home)] == ["rate"]


def test_bodies_that_are_too_large_are_not_read(serving, recorded):
    """Said by their length, or found on the way."""
    with serving(max_body=10_000) as client:
        response = post(client, event(data={"model": "x" * 20_000}))
        assert response.status_code == 413

        def chunks():
            for _ in range(100):
                yield b"x" * 1000

        assert client.post(EVENTS, content=chunks(), headers=JSON).status_code == 413
        for length in ("-1", "abc", "1e9"):
            headers = {**JSON, "Content-Length": length}
            assert client.post(EVENTS, content=b"{}", headers=headers).status_code == 400
        packed = {**JSON, "Content-Encoding": "gzip"}
        assert client.post(EVENTS, content=b"{}", headers=packed).status_code == 415
        assert post(client, event()).status_code == 204
    assert len(recorded()) == 1


def test_an_error_of_ours_tells_nothing(client, monkeypatch, caplog):
    """Neither its message, which may quote what was sent, nor where it was."""
    desk = client.app.state.desk

    def fail(*_):
        raise ValueError(event()["subject"])

    monkeypatch.setattr(type(desk.intake), "take", fail)

    response = post(client, event())

    assert response.status_code == 500
    assert response.headers["Content-Type"] == "application/problem+json"
    assert "acme" not in response.text
    assert "Traceback" not in response.text
    assert "acme" not in caplog.text


def test_answers_are_kept_by_nobody_on_the_way(client):
    """And no browser takes them for something else."""
    for response in (client.get("/metrics"), client.get("/nowhere"), post(client, event())):
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert re.fullmatch("[0-9a-f]{16}", response.headers["X-Request-Id"])
        assert "server" not in response.headers


HOSTILE = [
    "' OR '1'='1",
    '"; DROP TABLE events; --',
    "../../../../etc/passwd",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "a\r\nSet-Cookie: x=y",
    "a\0b",
    "${jndi:ldap://x}",
    "{{7*7}}",
    "<script>alert(1)</script>",
    "$.model') OR 1=1 --",
    "*",
    "\u202e",
    "9" * 400,
    "x" * 5000,
]


@pytest.fixture
def two_customers(serving, keys, living, tmp_path):
    """A server with usage of acme and of globex, and a key that sees acme's alone."""
    _, key = keys.create("acme's", ["ingest", "read"], subjects=["acme"])
    _, admin = keys.create("everything", ["admin"])
    plans = tmp_path / "plans.toml"
    plans.write_text(PLANS)
    with serving(keys_required=True, limits="on", plans=plans) as client:
        sent = [event("1"), event("2", subject="globex", data={"model": "secret-model"})]
        assert post(client, sent, **bearer(admin)).status_code == 204
        granted = {"subject": "globex", "amount": 471_147_114}
        response = client.post("/api/v1/grants", json=granted, headers=bearer(admin))
        assert response.status_code == 201
        assert living[0].sources.flush(30)
        client.headers.update(bearer(key))
        yield client


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:30])
def test_no_parameter_leads_to_what_is_of_others(two_customers, text):
    """In each part of each path and in each parameter: it is a name like another, or refused."""
    paths = two_customers.app.openapi()["paths"]
    asked = 0
    for path, operations in paths.items():
        for method, operation in operations.items():
            names = [
                each["name"] for each in operation.get("parameters", []) if each["in"] == "query"
            ]
            with_text = re.sub(r"\{[^}]*\}", quote(text, safe=""), path)
            requests = [(with_text, {})] if with_text != path else []
            real = re.sub(r"\{[^}]*\}", "tokens_total", path)
            requests += [(real, {name: text, "subject": "acme"}) for name in names]
            requests += [(real, {"subject": text})]
            for target, parameters in requests:
                body = {} if method in ("post", "put") else None
                response = two_customers.request(method, target, params=parameters, json=body)
                asked += 1
                assert response.status_code < 500, (method, target, parameters)
                assert "x-injected" not in response.headers
                assert "set-cookie" not in response.headers
                for secret in ("globex", "secret-model", "471147114", "root:", "Traceback"):
                    assert secret not in response.text, (method, target, parameters)
    assert asked > 90


@pytest.mark.parametrize(
    ("content", "status"),
    [
        pytest.param(b'{"a": "' + b"x" * 70_000 + b'"}', 413, id="large"),
        pytest.param(b"[" * 5_000, 400, id="deep"),
        pytest.param(b'{"a":' * 40 + b"1" + b"}" * 40, 400, id="nested"),
        pytest.param(b"\xff\xfe", 400, id="no text"),
        pytest.param(b'{"subject": "\\ud800"}', 400, id="half a character"),
        pytest.param(b'{"subject": NaN}', 400, id="no number"),
        pytest.param(b"", 400, id="nothing"),
        pytest.param(b"null", 400, id="null"),
        pytest.param(b"1" * 5000, 400, id="a number of 5,000 digits"),
    ],
)
def test_no_body_is_too_much_for_any_route(serving, keys, home, content, status):
    """Large ones, deep ones, and those that are none; refused before anything is done."""
    _, admin = keys.create("everything", ["admin"])
    with serving(keys_required=True, key=admin, limits="on", max_body=65_536) as client:
        for method, path in routes(client):
            if method in ("POST", "PUT") and not path.endswith("/code"):
                headers = {"Content-Type": "application/json"}
                response = client.request(method, path, content=content, headers=headers)
                assert (response.status_code, path) == (status, path)
                assert response.headers["content-type"] == "application/problem+json"
    assert not (home / "ledger.db").exists()
    assert not (home / "catalogue.db").exists()
    assert not (home / "limits.db").exists()
