"""Balances over HTTP: granted, checked, reserved, settled, given back; and what is owed."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from decimal import Decimal

import pytest

from llm_metering.limits import AccountKey
from tests.eventually import eventually

from .conftest import EVENTS, PLANS, audit, event

API = "/api/v1"


@pytest.fixture
def limited(serving):
    """A server with limits, and acme's 1,000 tokens."""
    with serving(limits="on") as client:
        assert post(client, "grants", subject="acme", amount=1000).status_code == 201
        yield client


def post(client, what, **body):
    """Ask for something."""
    return client.post(f"{API}/{what}", json=body)


def balance(client, subject="acme", feature="tokens"):
    """What a subject has left."""
    response = client.get(f"{API}/balances", params={"subject": subject})
    assert response.status_code == 200
    [found] = [each for each in response.json() if each["feature"] == feature]
    assert found["granted"] == found["used"] - found["overage"] + (
        found["available"] + found["reserved"]
    )
    return found


def left(client, subject="acme"):
    """What is available, reserved and used."""
    found = balance(client, subject)
    return found["available"], found["reserved"], found["used"]


def test_what_is_reserved_is_settled_or_given_back(limited):
    """More or less than was reserved, once, and the rest is there again."""
    made = post(limited, "reserve", subject="acme", amount=600).json()
    assert (made["subject"], made["amounts"]) == ("acme", {"tokens": 600})
    assert left(limited) == (400, 600, 0)
    assert post(limited, "reserve", subject="acme", amount=401).status_code == 402

    settled = {"id": made["id"], "subject": "acme", "amounts": {"tokens": 250}}
    for _ in range(2):
        assert post(limited, "settle", **settled).status_code == 204
        assert left(limited) == (750, 0, 250)
    again = post(limited, "reserve", subject="acme", amount="700").json()
    assert post(limited, "void", id=again["id"], subject="acme").status_code == 204
    assert post(limited, "void", id=again["id"], subject="acme").status_code == 404
    assert left(limited) == (750, 0, 250)


def test_a_refusal_says_what_there_is_and_what_is_needed(limited):
    """As numbers of tokens, and when that changes."""
    refused = post(limited, "reserve", subject="acme", amount=1001)
    assert refused.status_code == 402
    document = refused.json()
    assert (document["available"], document["needed"]) == (1000, 1001)
    assert (document["feature"], document["unit"]) == ("tokens", "tokens")
    assert document["title"] == "Payment Required"
    stranger = post(limited, "reserve", subject="stranger", amount=1)
    assert (stranger.status_code, "available" in stranger.json()) == (402, False)


def test_a_check_reserves_nothing(limited):
    """It says whether the balance covers it now, and why not."""
    for _ in range(3):
        assert post(limited, "check", subject="acme", amount=1000).json() == {"allowed": True}
    assert left(limited) == (1000, 0, 0)
    assert post(limited, "check", subject="acme", amount=1001).json() == {
        "allowed": False,
        "reason": "balance",
        "feature": "tokens",
        "unit": "tokens",
        "available": 1000,
        "needed": 1001,
    }
    found = post(limited, "check", subject="stranger", inputTokens=5).json()
    assert (found["allowed"], found["reason"]) == (False, "no_grant")
    assert post(limited, "check", subject="stranger", amount=5).json()["reason"] == "no_grant"


def test_a_call_needs_what_goes_in_and_what_may_come_out(limited):
    """Of each balance that it counts for; what nobody said of the answer is the settings' ceiling."""
    call = {"subject": "acme", "provider": "openai", "model": "gpt-5-mini", "inputTokens": 100}
    made = post(limited, "reserve", **call, maxOutputTokens=50).json()
    assert made["amounts"] == {"tokens": 150}
    assert post(limited, "void", id=made["id"], subject="acme").status_code == 204
    ceiling = limited.app.state.desk.meter.settings.reserved_output_tokens
    assert post(limited, "check", **call).json()["needed"] == 100 + ceiling

    assert post(limited, "grants", subject="acme", amount="0.5", unit="money").status_code == 201
    made = post(limited, "reserve", **call, maxOutputTokens=50).json()
    assert set(made["amounts"]) == {"tokens", "money"}
    assert 0 < Decimal(made["amounts"]["money"]) < Decimal("0.01")
    unknown = {**call, "model": "a-model-of-nobody", "maxOutputTokens": 50}
    assert post(limited, "reserve", **unknown).status_code == 422
    assert post(limited, "check", **unknown).json() == {"allowed": False, "reason": "unpriced"}


def test_an_event_settles_what_was_reserved_for_it(limited, living):
    """With `reservation_id` in its data; what it used is burnt once, however often it comes."""
    made = post(limited, "reserve", subject="acme", amount=600).json()
    data = event()["data"] | {"reservation_id": made["id"]}
    for _ in range(2):
        assert limited.post(EVENTS, json=[event(data=data)]).status_code == 204
    assert living[0].sources.flush(30)
    assert left(limited) == (880, 0, 120)
    assert limited.post(EVENTS, json=[event("2")]).status_code == 204
    assert living[0].sources.flush(30)
    assert left(limited) == (760, 0, 240)


def test_what_is_reserved_twice_under_a_key_is_reserved_once(limited):
    """A request that was answered into the void comes again; another subject's key is another one."""
    first = post(limited, "reserve", subject="acme", amount=600, idempotencyKey="call-1")
    again = post(limited, "reserve", subject="acme", amount=600, idempotencyKey="call-1")
    assert first.json()["id"] == again.json()["id"]
    assert left(limited) == (400, 600, 0)
    post(limited, "grants", subject="globex", amount=1000)
    other = post(limited, "reserve", subject="globex", amount=1, idempotencyKey="call-1")
    assert other.json()["id"] != first.json()["id"]
    keyed = {"subject": "acme", "amount": 50, "key": "top-up"}
    made = [post(limited, "grants", **keyed).json() for _ in range(2)]
    assert made[0]["id"] == made[1]["id"]
    assert post(limited, "grants", **{**keyed, "amount": 51}).status_code == 400
    assert balance(limited)["granted"] == 1050


def test_what_is_reserved_ends_by_itself_unless_it_is_renewed(limited):
    """As long as it was asked for."""
    made = post(limited, "reserve", subject="acme", amount=600, expiresIn=0.3).json()
    kept = post(limited, "reserve", subject="acme", amount=100, expiresIn=0.3).json()
    assert post(limited, "renew", id=kept["id"], subject="acme", expiresIn=600).status_code == 204
    time.sleep(0.35)
    assert left(limited) == (900, 100, 0)
    assert post(limited, "renew", id=made["id"], subject="acme").status_code == 404
    assert post(limited, "void", id=made["id"], subject="acme").status_code == 404
    # Of what there is no balance, nothing can be settled.
    wrong = {"id": made["id"], "subject": "acme", "amounts": {"money": "1"}}
    assert post(limited, "settle", **wrong).status_code == 404
    stranger = {"id": "x", "subject": "stranger", "amounts": {"tokens": 1}}
    assert post(limited, "settle", **stranger).status_code == 404
    # The call was made all the same.
    settled = {"id": made["id"], "subject": "acme", "amounts": {"tokens": 30}}
    assert post(limited, "settle", **settled).status_code == 204
    assert left(limited) == (870, 100, 30)


def test_nobody_has_a_hand_in_what_another_subject_has_reserved(limited, serving, keys, home):
    """Whoever knows its id: neither settles it, nor gives it back, nor keeps it."""
    made = post(limited, "reserve", subject="acme", amount=600).json()
    post(limited, "grants", subject="globex", amount=1000)
    _, key = keys.create("globex", ["ingest"], subjects=["globex"])
    limited.headers["Authorization"] = f"Bearer {key}"
    for what, more in (("settle", {"amounts": {"tokens": 1}}), ("void", {}), ("renew", {})):
        assert post(limited, what, id=made["id"], subject="acme", **more).status_code == 403
        assert post(limited, what, id=made["id"], subject="globex", **more).status_code == 404
    del limited.headers["Authorization"]
    key = AccountKey("acme", "tokens")
    assert limited.app.state.desk.meter.limits.store.read([key])[key].reserved == 600
    assert {line["reason"] for line in audit(home) if line["action"] == "refused"} == {"subject"}


def test_of_many_who_reserve_at_once_no_more_get_it_than_there_is(limited):
    """Whatever the order."""
    found = Counter()

    def reserve():
        for _ in range(10):
            found[post(limited, "reserve", subject="acme", amount=70).status_code] += 1

    threads = [threading.Thread(target=reserve) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == {201: 14, 402: 46}
    assert left(limited) == (20, 980, 0)


def test_a_subject_that_begins_too_much_is_told_when_it_may_again(serving):
    """Of calls; what is reserved by amount is no call."""
    with serving(limits="on", requests_per_minute=2) as client:
        post(client, "grants", subject="acme", amount=10**9)
        call = {"subject": "acme", "inputTokens": 1, "maxOutputTokens": 1}
        statuses = [post(client, "reserve", **call).status_code for _ in range(2)]
        refused = post(client, "reserve", **call)
        assert (statuses, refused.status_code) == ([201, 201], 429)
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert post(client, "reserve", subject="acme", amount=1).status_code == 201


def test_whoever_has_nothing_is_given_what_the_settings_say(serving):
    """Be it for an amount or for a call, checked or reserved."""
    with serving(limits="on", default_grant="100 tokens per month") as client:
        assert post(client, "check", subject="a", amount=101).json()["available"] == 100
        assert post(client, "reserve", subject="b", amount=100).status_code == 201
        assert post(client, "reserve", subject="c", inputTokens=1, maxOutputTokens=1).is_success
        value = client.get(f"{API}/subjects/d/entitlements/tokens/value").json()
        assert value["balance"] == 100


def test_a_grant_is_made_and_taken_back(limited, home):
    """With all that grants have; what is left of it is gone then."""
    made = post(
        limited,
        "grants",
        subject="acme",
        amount="12.5",
        unit="credits",
        priority=7,
        effectiveAt="2026-11-01T00:00:00Z",
        recurrence="MONTH",
        maxRollover="2.5",
    ).json()
    assert (made["amount"], made["left"], made["maxRollover"]) == ("12.5", "12.5", "2.5")
    assert (made["priority"], made["recurrence"]) == (7, "MONTH")
    assert balance(limited, feature="tokens")["available"] == 1000
    path = f"{API}/grants/{made['id']}"
    assert limited.delete(path).status_code == 400
    assert limited.delete(path, params={"subject": "acme"}).status_code == 404
    asked = {"subject": "acme", "unit": "credits"}
    assert limited.delete(path, params=asked).status_code == 204
    assert limited.delete(path, params=asked).status_code == 404
    found = limited.get(f"{API}/balances", params={"subject": "acme"}).json()
    assert {each["feature"]: each["hasAccess"] for each in found} == {
        "tokens": True,
        "credits": False,
    }
    done = [line["action"] for line in audit(home)]
    assert done == ["grant.create", "grant.create", "grant.void"]


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("grants", {"subject": "acme", "amount": 0}),
        ("grants", {"subject": "acme", "amount": -1}),
        ("grants", {"subject": "acme", "amount": 1.5}),
        ("grants", {"subject": "acme", "amount": "1.5"}),
        ("grants", {"subject": "acme", "amount": "NaN", "unit": "money"}),
        ("grants", {"subject": "acme", "amount": "1e3", "unit": "money"}),
        ("grants", {"subject": "acme", "amount": "0.0000000000001", "unit": "money"}),
        ("grants", {"subject": "acme", "amount": 10**16}),
        ("grants", {"subject": "acme", "amount": 1, "unit": "apples"}),
        ("grants", {"subject": "acme", "amount": 1, "priority": 0}),
        ("grants", {"subject": "acme", "amount": 1, "recurrence": "CENTURY"}),
        ("grants", {"subject": "acme", "amount": 1, "expiresAt": "2026-01-01T00:00:00"}),
        (
            "grants",
            {
                "subject": "acme",
                "amount": 1,
                "effectiveAt": "2026-01-02T00:00:00Z",
                "expiresAt": "2026-01-01T00:00:00Z",
            },
        ),
        ("grants", {"subject": " ", "amount": 1}),
        ("reserve", {"subject": "acme", "amount": 0}),
        ("reserve", {"subject": "acme", "amount": 1, "unit": "apples"}),
        ("reserve", {"subject": "acme", "amount": 1, "inputTokens": 1}),
        ("reserve", {"subject": "acme", "inputTokens": -1}),
        ("reserve", {"subject": "acme", "amount": 1, "expiresIn": 0}),
        ("reserve", {"subject": "acme", "amount": 1, "expiresIn": 1e9}),
        ("check", {"subject": "acme", "tokens": 5}),
        ("check", {"subject": ""}),
        ("settle", {"id": "x", "subject": "acme", "amounts": {}}),
        ("settle", {"id": "x", "subject": "acme", "amounts": {"apples": 1}}),
        ("settle", {"id": "x", "subject": "acme", "amounts": {"tokens": "0.5"}}),
        ("settle", {"id": "", "subject": "acme", "amounts": {"tokens": 1}}),
        ("void", {"id": "x"}),
    ],
    ids=lambda value: value if isinstance(value, str) else json.dumps(value),
)
def test_what_makes_no_sense_is_refused(limited, what, body):
    """And changes nothing."""
    assert post(limited, what, **body).status_code == 400
    assert left(limited) == (1000, 0, 0)


def test_where_limits_are_off_it_says_so(client):
    """501, with what would switch them on."""
    for what, body in (
        ("check", {"subject": "acme"}),
        ("reserve", {"subject": "acme", "amount": 1}),
        ("grants", {"subject": "acme", "amount": 1}),
    ):
        response = post(client, what, **body)
        assert (response.status_code, "limits" in response.json()["detail"]) == (501, True)
    assert client.get(f"{API}/balances").status_code == 501


def test_a_store_that_cannot_be_used_is_said_to_be(limited, home):
    """503, and what is wrong with it stands in the log of the server alone."""
    limited.app.state.desk.meter.limits.store.close()
    (home / "limits.db").write_bytes(b"no database at all" * 100)
    for what, body in (
        ("check", {"subject": "acme"}),
        ("reserve", {"subject": "acme", "amount": 1}),
    ):
        response = post(limited, what, **body)
        assert (response.status_code, str(home) in response.text) == (503, False)


@pytest.mark.parametrize(
    "path", ["v1/subjects/{}", "v1/customers/{}", "v2/customers/{}"], ids=["subject", "v1", "v2"]
)
def test_an_entitlement_has_a_value(limited, living, path):
    """OpenMeter's shape of what is left of a feature."""
    assert limited.post(EVENTS, json=[event()]).status_code == 204
    assert living[0].sources.flush(30)

    def value(subject, feature):
        return limited.get(f"/api/{path.format(subject)}/entitlements/{feature}/value")

    assert value("acme", "tokens").json() == {
        "hasAccess": True,
        "balance": 880.0,
        "usage": 120.0,
        "overage": 0.0,
        "totalAvailableGrantAmount": 1000.0,
    }
    used = post(limited, "reserve", subject="acme", amount=880).json()
    settled = {"id": used["id"], "subject": "acme", "amounts": {"tokens": 1000}}
    assert post(limited, "settle", **settled).status_code == 204
    found = value("acme", "tokens").json()
    assert (found["hasAccess"], found["balance"], found["overage"]) == (False, 0.0, 120.0)
    assert value("acme", "money").status_code == 404
    assert value("stranger", "tokens").status_code == 404


def test_what_is_owed_is_asked_for(serving, tmp_path, living):
    """The bills that the command line makes, of one subject or of all."""
    plans = tmp_path / "plans.toml"
    plans.write_text(PLANS)
    with serving(plans=plans) as client:
        sent = [event("1"), event("2", subject="globex")]
        assert client.post(EVENTS, json=sent).status_code == 204
        assert living[0].sources.flush(30)

        found = client.get(f"{API}/bills", params={"month": "2026-11"}).json()

        assert [bill["subject"] for bill in found["bills"]] == ["acme"]
        assert found["bills"][0]["total"] == "0.12"
        assert list(found["refused"]) == ["globex"]
        mine = client.get(f"{API}/bills", params={"month": "2026-11", "subject": "acme"}).json()
        assert mine == {"bills": found["bills"], "refused": {}}
        for wrong in ({"month": "2026-13"}, {"month": "x"}, {"year": "2026"}):
            assert client.get(f"{API}/bills", params=wrong).status_code == 400


def test_without_plans_nobody_is_billed(client):
    """501, with what is missing."""
    response = client.get(f"{API}/bills")
    assert (response.status_code, "plans" in response.json()["detail"]) == (501, True)


def test_what_is_burnt_by_another_process_is_seen(serve, keys, home):
    """Events come to one server process, and the balance is asked of the same one, a moment later."""
    import httpx

    _, key = keys.create("everything", ["admin"])
    server = serve("--workers", "2", LLM_METERING_LIMITS="on")
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=server.url, headers=headers, trust_env=False) as client:
        assert post(client, "grants", subject="acme", amount=1000).status_code == 201
        for number in range(4):
            assert client.post(EVENTS, json=[event(str(number))]).status_code == 204
        eventually(lambda: left(client), lambda found: found == (520, 0, 480))
    assert server.stop() == 0
