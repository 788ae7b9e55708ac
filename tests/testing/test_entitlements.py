"""What the fake server says of entitlements, as OpenMeter's document has it."""

from __future__ import annotations

import time

import pytest

from llm_metering.meters import METERS
from llm_metering.testing import OpenMeterServer
from tests.openmeter_spec import openmeter_schema, spec_path, validator

PATHS = {"v1": "/api/v1/subjects/{}/entitlements", "v2": "/api/v2/customers/{}/entitlements"}


@pytest.fixture
def server():
    """A server on which acme has one entitlement of each kind."""
    with OpenMeterServer(meters=[METERS["tokens_total"].to_dict()]) as server:
        server.entitle("acme", "llm_tokens", meter="tokens_total", amount=100)
        server.entitle("acme", "sso", kind="boolean")
        server.entitle("acme", "plan", kind="static", config='{"seats": 5}')
        yield server


@pytest.fixture(params=["v1", "v2"])
def api(request):
    """Both APIs."""
    return request.param


@pytest.fixture
def ask(server, api, client):
    """Asks for what is behind the path of a subject's entitlements."""

    def ask(path, subject="acme"):
        answer = client.get(f"{server.url}{PATHS[api].format(subject)}{path}")
        return answer.status_code, answer.json()

    return ask


def use(server, tokens, subject="acme", moment=None):
    server.preload(
        [
            {
                "id": str(len(server.events)),
                "source": "tests",
                "type": "llm.usage",
                "subject": subject,
                "data": {"total_tokens": tokens},
                **({} if moment is None else {"time": moment}),
            }
        ]
    )


def test_a_balance_is_what_usage_has_left(server, ask):
    """The subject's own usage; what there is not is overage, and then there is no access."""
    use(server, 30)
    use(server, 50, "globex")
    status, value = ask("/llm_tokens/value")
    value.pop("grantBalances", None)
    assert (status, value) == (
        200,
        {
            "hasAccess": True,
            "balance": 70,
            "usage": 30,
            "overage": 0,
            "totalAvailableGrantAmount": 100,
        },
    )

    use(server, 80)
    status, value = ask("/llm_tokens/value")
    assert (value["hasAccess"], value["balance"], value["overage"]) == (False, 0, 10)


def test_a_soft_limit_gives_access_where_nothing_is_left(server, ask):
    """And its definition says so, while the value does not."""
    server.entitle("acme", "llm_tokens", meter="tokens_total", soft_limit=True)
    use(server, 5)

    assert ask("/llm_tokens/value")[1]["hasAccess"]


def test_usage_counts_from_the_beginning_of_the_period(server, ask):
    """What was used before does not."""
    use(server, 30, moment="2026-01-01T00:00:00Z")
    server.entitle("acme", "llm_tokens", meter="tokens_total", amount=100, since=time.time() - 60)
    use(server, 1)

    assert ask("/llm_tokens/value")[1]["usage"] == 1


def test_where_nothing_is_counted_there_is_access(ask):
    """Boolean and static entitlements have no balance."""
    assert ask("/sso/value")[1] == {"hasAccess": True}
    assert ask("/plan/value")[1] == {"hasAccess": True, "config": '{"seats": 5}'}


def test_who_is_entitled_to_nothing_is_not_found(server, ask):
    """Neither an unknown subject, nor an unknown feature, nor what was taken back."""
    assert ask("/llm_tokens/value", "globex")[0] == 404
    assert ask("/other/value")[0] == 404
    assert server.withdraw("acme", "llm_tokens")
    assert not server.withdraw("acme", "llm_tokens")
    assert ask("/llm_tokens/value")[0] == 404


def test_an_entitlement_needs_a_meter_that_there_is(server):
    """As in OpenMeter, whose features have one."""
    with pytest.raises(ValueError, match="no meter calls"):
        server.entitle("acme", "calls", meter="calls", amount=1)


def test_answers_are_those_of_the_document(server, api, ask):
    """Values and definitions, of each kind."""
    document = spec_path()
    if document is None:
        pytest.skip("OpenMeter's API document is not here (LLM_METERING_OPENMETER_SPEC)")
    is_v2 = api == "v2"
    values = validator(
        openmeter_schema(document, "EntitlementValueV2" if is_v2 else "EntitlementValue")
    )
    kinds = {"llm_tokens": "Metered", "sso": "Boolean", "plan": "Static"}
    for feature, kind in kinds.items():
        status, value = ask(f"/{feature}/value")
        assert status == 200
        values.validate(value)
        shape = openmeter_schema(document, f"Entitlement{kind}{'V2' if is_v2 else ''}")
        if is_v2:
            _, shown = ask(f"/{feature}")
        else:
            [shown] = [each for each in ask("")[1] if each["featureKey"] == feature]
        validator(shape).validate(shown)
