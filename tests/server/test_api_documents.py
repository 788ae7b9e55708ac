"""The documents of the API hold: no answer that is not in them, and none that says the server failed.

Requests are made up by Schemathesis from two documents: our own, and those parts of OpenMeter's that the
server has. Some fit the document, and some do not.
"""

from __future__ import annotations

import os

import httpx
import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from tests.eventually import eventually
from tests.openmeter_spec import spec_path

from .conftest import EVENTS, PLANS, bearer, event

CLAIMED = frozenset(
    [
        "ingestEvents",
        "listEvents",
        "listMeters",
        "createMeter",
        "getMeter",
        "updateMeter",
        "deleteMeter",
        "queryMeter",
        "queryMeterPost",
        "listMeterSubjects",
        "listMeterGroupByValues",
        "listSubjects",
        "upsertSubject",
        "getSubject",
        "deleteSubject",
        "createPortalToken",
        "listPortalTokens",
        "invalidatePortalTokens",
        "queryPortalMeter",
        "getEntitlementValue",
        "getCustomerEntitlementValue",
        "getCustomerEntitlementValueV2",
    ]
)
"""What of OpenMeter's API the server has."""

load_all_checks()
CHECKED = CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    ]
)
KNOWN = {
    "name": ["tokens_total", "mine", "cost_total"],
    "meterIdOrSlug": ["tokens_total", "mine"],
    "slug": ["tokens_total"],
    "meterSlug": ["tokens_total"],
    "key": ["acme", "model"],
    "groupByKey": ["model"],
    "subjectIdOrKey": ["acme"],
    "subject": ["acme"],
    "customerIdOrKey": ["acme"],
    "feature": ["tokens"],
    "featureKey": ["tokens"],
    "entitlementIdOrFeatureKey": ["tokens"],
}

FITTING = GenerationMode.POSITIVE
EXAMPLES = int(os.environ.get("LLM_METERING_API_EXAMPLES", "40"))
"""Requests of each kind for each operation."""


@pytest.fixture
def asking(serve, keys, tokens, tmp_path):
    """A function that makes a request of a case, with the key or the token that it wants."""
    _, key = keys.create("everything", ["admin"])
    _, token = tokens.create("acme")
    plans = tmp_path / "plans.toml"
    plans.write_text(PLANS)
    server = serve(LLM_METERING_LIMITS="on", LLM_METERING_PLANS=str(plans))
    with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client:
        client.headers.update(bearer(key))
        assert client.post(EVENTS, json=[event("1"), event("2", subject="globex")]).is_success
        path = "/api/v1/meters/tokens_total/query"
        eventually(lambda: client.get(path).json()["data"], len)
        assert client.post(
            "/api/v1/meters", json={"slug": "mine", "aggregation": "COUNT", "eventType": "a"}
        ).is_success
        assert client.post("/api/v1/grants", json={"subject": "acme", "amount": 10**9}).is_success

        def ask(case):
            is_customers = case.path.startswith(("/api/v1/portal/meters", "/api/v1/portal/session"))
            shown = bearer(token) if is_customers else bearer(key)
            return case.call(base_url=server.url, headers=shown)

        ask.document = client.get("/openapi.json").json()
        yield ask
    assert server.stop() == 0
    assert "Traceback" not in server.said
    assert "failed" not in server.said


def cases(operation, mode):
    """Requests for an operation: of anything, and of what there is."""
    anything = operation.as_strategy(generation_mode=mode)
    names = {parameter.name for parameter in operation.path_parameters}
    if not names <= KNOWN.keys() or not names:
        return anything
    there = st.fixed_dictionaries({name: st.sampled_from(KNOWN[name]) for name in names}).flatmap(
        lambda chosen: operation.as_strategy(generation_mode=mode, path_parameters=chosen)
    )
    return st.one_of(anything, there)


def check(ask, document, mode, wanted=None):
    """Make requests for each operation, and compare the answers with the document; the statuses seen."""
    schema = schemathesis.openapi.from_dict(document)
    seen = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        id = operation.definition.raw["operationId"]
        # Of what takes neither parameters nor a body, nothing can be wrong.
        takes_something = operation.query or operation.body
        if (wanted is None or id in wanted) and (takes_something or mode is FITTING):
            seen[id] = check_operation(ask, operation, mode)
    return seen


def check_operation(ask, operation, mode):
    """Make requests for one; the statuses seen."""
    statuses = set()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        # What is asked is the same each time: that something is answered is a part of the test.
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases(operation, mode))
    def run(case):
        response = ask(case)
        statuses.add(response.status_code)
        case.validate_response(response, checks=CHECKED)

    run()
    return statuses


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_our_own_document_holds(asking, mode):
    """Each operation answers as it says, whatever is sent."""
    seen = check(asking, asking.document, mode)
    assert not {501, 503} & set().union(*seen.values())
    if mode is FITTING:
        assert len(seen) == sum(map(len, asking.document["paths"].values()))
        # What fits the document is also answered, not only refused.
        answered = {id for id, statuses in seen.items() if statuses & {200, 201, 204}}
        assert answered >= {"ingestEvents", "listEvents", "queryMeter", "queryMeterPost"}


@pytest.fixture(scope="module")
def openmeters():
    """OpenMeter's own document."""
    path = spec_path()
    if path is None:
        pytest.skip("OpenMeter's API document is not here (LLM_METERING_OPENMETER_SPEC)")
    return yaml.safe_load(path.read_text("utf-8"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_what_we_have_of_openmeters_document_holds(asking, openmeters, mode):
    """A client that was made from it understands each answer."""
    seen = check(asking, openmeters, mode, CLAIMED)
    if mode is FITTING:
        assert seen.keys() == CLAIMED
        answered = {id for id, statuses in seen.items() if statuses & {200, 201, 204}}
        # Of the others the texts have to mean something: a path, a version.
        assert answered >= CLAIMED - {
            "ingestEvents",
            "createMeter",
            "updateMeter",
            "deleteSubject",
            "invalidatePortalTokens",
        }


def test_the_examples_of_openmeters_document_are_taken(asking, openmeters):
    """Each body that it shows is answered with success, and as it says."""
    schema = schemathesis.openapi.from_dict(openmeters)
    schemas = openmeters["components"]["schemas"]
    for label, body, media_type in (
        ("POST /api/v1/events", schemas["Event"]["example"], "application/cloudevents+json"),
        (
            "POST /api/v1/events",
            [schemas["Event"]["example"]],
            "application/cloudevents-batch+json",
        ),
        ("POST /api/v1/meters", schemas["MeterCreate"]["example"] | {"slug": "of_example"}, None),
        ("POST /api/v1/subjects", [schemas["SubjectUpsert"]["example"]], None),
        ("POST /api/v1/portal/tokens/invalidate", {"subject": "customer-1"}, None),
    ):
        [operation] = [
            found.ok() for found in schema.get_all_operations() if found.ok().label == label
        ]
        case = operation.Case(body=body, media_type=media_type or "application/json")
        response = asking(case)
        assert (response.status_code in (200, 201, 204), label) == (True, label), response.text
        case.validate_response(response, checks=CHECKED)
