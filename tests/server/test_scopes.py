"""Who may ask for what: each operation there is, with each key that must not."""

from __future__ import annotations

import re

import pytest

from .conftest import audit, bearer, event

PUBLIC = {"health", "ready", "beginPortalSession"}
PORTAL = {"portalSession", "endPortalSession", "queryPortalMeter"}
SCOPES = {
    "ingest": {"ingestEvents", "check", "reserve", "settle", "void", "renew"},
    "read": {
        "listEvents",
        "listMeters",
        "getMeter",
        "queryMeter",
        "queryMeterPost",
        "listMeterSubjects",
        "listMeterGroupByValues",
        "listSubjects",
        "getSubject",
        "metrics",
        "validateToken",
        "listBalances",
        "listBills",
        "getEntitlementValue",
        "getCustomerEntitlementValue",
        "getCustomerEntitlementValueV2",
    },
    "admin": {
        "createMeter",
        "updateMeter",
        "deleteMeter",
        "upsertSubject",
        "deleteSubject",
        "createPortalToken",
        "listPortalTokens",
        "invalidatePortalTokens",
        "createPortalCode",
        "createGrant",
        "voidGrant",
    },
}
OF_EVERYBODY = {
    "listEvents",
    "queryMeter",
    "queryMeterPost",
    "listMeterSubjects",
    "listMeterGroupByValues",
    "listSubjects",
    "getSubject",
    "metrics",
    "listBalances",
    "listBills",
}
"""What a key that is bound to subjects may not ask without naming one of them, or not at all."""

BODIES = {
    "ingestEvents": event(),
    "createMeter": {"slug": "mine", "aggregation": "COUNT", "eventType": "mine"},
    "upsertSubject": [{"key": "globex"}],
    "createPortalToken": {"subject": "globex"},
    "invalidatePortalTokens": {"subject": "globex"},
    "validateToken": {"token": "x"},
    "check": {"subject": "globex"},
    "reserve": {"subject": "globex", "amount": 1},
    "settle": {"id": "x", "subject": "globex", "amounts": {"tokens": 1}},
    "void": {"id": "x", "subject": "globex"},
    "renew": {"id": "x", "subject": "globex"},
    "createGrant": {"subject": "globex", "amount": 1},
}


def operations(client):
    """Every operation: its id, method, path."""
    return [
        (operation["operationId"], method.upper(), path)
        for path, operations in client.app.openapi()["paths"].items()
        for method, operation in operations.items()
    ]


def ask(client, operation, **headers):
    """Ask for an operation, of what there is none of or anything goes."""
    id, method, path = operation
    path = re.sub(r"\{(\w+)\}", lambda name: "tokens_total" if name[1] == "name" else "x", path)
    return client.request(method, path, json=BODIES.get(id, {}), headers=headers)


def test_each_operation_is_in_the_table(client):
    """So that none is added without saying who may ask for it."""
    listed = [*PUBLIC, *PORTAL, *(id for ids in SCOPES.values() for id in ids)]
    assert sorted(listed) == sorted(id for id, _, _ in operations(client))
    assert set(listed) > OF_EVERYBODY


@pytest.mark.parametrize("scope", ["ingest", "read", "admin"])
def test_a_key_without_the_scope_is_refused(serving, keys, home, scope):
    """Of one scope, on each operation that wants another; and only there."""
    _, key = keys.create("narrow", [scope])
    may = {"admin": set().union(*SCOPES.values())}.get(scope, SCOPES[scope])
    refused = 0
    with serving(keys_required=True, key=key) as client:
        for operation in operations(client):
            status = ask(client, operation).status_code
            if operation[0] in PUBLIC | may:
                assert status not in (401, 403) or operation[0] == "beginPortalSession", operation
            else:
                assert (status, operation) == (403, operation)
                refused += 1
    reasons = [line["reason"] for line in audit(home) if line["action"] == "refused"]
    # And a code that is none.
    assert len(reasons) >= refused
    assert set(reasons) <= {"wrong scope", "no token", "code unknown"}


def test_a_key_of_a_subject_does_nothing_for_everybody(serving, keys, home):
    """It sees nothing that is of others, nor a sum that they are part of."""
    _, key = keys.create("bound", ["ingest", "read"], subjects=["acme"])
    with serving(keys_required=True, key=key) as client:
        for operation in operations(client):
            if operation[0] in OF_EVERYBODY:
                assert (ask(client, operation).status_code, operation) == (403, operation)
        assert client.get("/api/v1/meters").status_code == 200
    assert {line["reason"] for line in audit(home)} == {"subject"}


@pytest.mark.parametrize(
    ("method", "path", "own", "other"),
    [
        ("GET", "/api/v1/events", {"subject": "acme"}, {"subject": "globex"}),
        ("GET", "/api/v1/meters/tokens_total/query", {"subject": "acme"}, {"subject": "globex"}),
        (
            "GET",
            "/api/v1/meters/tokens_total/query",
            {"subject": ["acme"]},
            {"subject": ["acme", "globex"]},
        ),
        ("GET", "/api/v1/balances", {"subject": "acme"}, {"subject": "globex"}),
        ("POST", "/api/v1/check", {"subject": "acme"}, {"subject": "globex"}),
        ("POST", "/api/v1/meters/tokens_total/query", {"subject": ["acme"]}, {"subject": []}),
        ("POST", "/api/v1/meters/tokens_total/query", {"subject": ["acme"]}, {"subject": ["Acme"]}),
    ],
    ids=["events", "query", "two", "balances", "check", "none", "capitals"],
)
def test_a_key_of_a_subject_sees_and_does_what_is_of_it(
    serving, keys, home, method, path, own, other
):
    """And nothing of another one, named or not."""
    _, key = keys.create("bound", ["ingest", "read"], subjects=["acme"])
    with serving(keys_required=True, key=key, limits="on") as client:
        name = "params" if method == "GET" else "json"
        assert client.request(method, path, **{name: own}).status_code == 200
        response = client.request(method, path, **{name: other})
    assert response.status_code == 403
    assert "globex" not in response.text
    refused = [line for line in audit(home) if line["action"] == "refused"]
    assert [line["reason"] for line in refused] == ["subject"]


def test_a_key_of_a_subject_reserves_and_looks_at_nothing_of_another(serving, keys):
    """A path or a body that names somebody else is refused, whether there is something or not."""
    _, admin = keys.create("everything", ["admin"])
    _, key = keys.create("bound", ["ingest", "read"], subjects=["acme"])
    value = "/api/v1/subjects/{}/entitlements/tokens/value"
    with serving(keys_required=True, key=key, limits="on") as client:
        for subject in ("acme", "globex"):
            granted = {"subject": subject, "amount": 10}
            assert client.post("/api/v1/grants", json=granted, headers=bearer(admin)).is_success
        for subject, status in (("acme", 201), ("globex", 403), ("nobody", 403)):
            response = client.post("/api/v1/reserve", json={"subject": subject, "amount": 1})
            assert (response.status_code, subject) == (status, subject)
        assert client.get(value.format("acme")).status_code == 200
        assert client.get(value.format("globex")).status_code == 403
        assert client.get(value.format("nobody")).status_code == 403


def test_a_key_of_a_subject_validates_no_token_of_another(serving, keys, tokens):
    """Nor learns whose it is."""
    _, key = keys.create("bound", ["read"], subjects=["acme"])
    _, other = tokens.create("globex")
    _, own = tokens.create("acme")
    with serving(keys_required=True, key=key) as client:
        response = client.post("/api/v1/tokens/validate", json={"token": other})
        assert (response.status_code, "globex" in response.text) == (403, False)
        assert client.post("/api/v1/tokens/validate", json={"token": own}).json()["valid"]


def test_a_portal_token_opens_the_portal_alone(serving, tokens, home):
    """And a key, be it one for everything, does not stand for a customer."""
    _, text = tokens.create("acme")
    with serving(keys_required=True) as client:
        for operation in operations(client):
            status = ask(client, operation, **bearer(text)).status_code
            if operation[0] in PUBLIC | PORTAL:
                assert status != 403 or operation[0] == "beginPortalSession"
            else:
                assert (status, operation) == (403, operation)
    assert {line["reason"] for line in audit(home)} <= {"wrong scope", "code unknown"}
