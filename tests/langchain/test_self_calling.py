"""Integrations that tell the callbacks by themselves what LangChain tells them as well.

langchain-aws 1.9.1: `BedrockLLM._call` ends the run with the usage, and langchain-core ends it again
without (`llms/bedrock.py`; https://github.com/langchain-ai/langchain/issues/26049); where a
guardrail intervened, an error comes before both (`_prepare_input_and_invoke`); SageMaker's error is
told twice (`llms/sagemaker_endpoint.py`).
"""

from __future__ import annotations

import json

import pytest
from botocore.config import Config
from langchain_aws import BedrockLLM, SagemakerEndpoint
from langchain_aws.llms.sagemaker_endpoint import LLMContentHandler
from langchain_core.callbacks import BaseCallbackHandler

import llm_metering
from llm_metering.langchain import MeteringHandler

from .bill_lines import asked, billed, booked

AWS = {"region_name": "us-east-1", "aws_access_key_id": "x", "aws_secret_access_key": "x"}
ONCE = Config(retries={"total_max_attempts": 1})
GUARDRAILS = {"guardrailIdentifier": "g", "guardrailVersion": "1", "trace": "ENABLED"}


class Hooks(BaseCallbackHandler):
    """What LangChain told, in order."""

    def __init__(self):
        self.seen = []

    def on_llm_start(self, *args, **kwargs):
        self.seen.append("start")

    def on_llm_end(self, response, **kwargs):
        usage = (response.llm_output or {}).get("usage") or {}
        self.seen.append("end with usage" if usage.get("total_tokens") else "end")

    def on_llm_error(self, error, **kwargs):
        self.seen.append("error")


@pytest.fixture
def hooks():
    """What LangChain told, so that the trap is seen to be there."""
    return Hooks()


@pytest.fixture
def bedrock(provider):
    """Make a model of Amazon's; its connections are closed with the test."""
    made = []

    def bedrock(model="amazon.titan-text-x", **settings):
        settings = {**AWS, "endpoint_url": provider.url, "config": ONCE, **settings}
        made.append(BedrockLLM(model_id=model, **settings))
        return made[-1]

    yield bedrock
    for model in made:
        model.client.close()


class Content(LLMContentHandler):
    """What an endpoint of the user's takes and gives."""

    content_type = accepts = "application/json"

    def transform_input(self, prompt, model_kwargs):
        return json.dumps({"inputs": prompt}).encode()

    def transform_output(self, output):
        return json.loads(output.read())[0]["generated_text"]


@pytest.fixture
def sagemaker(provider):
    """Make an endpoint; its connections are closed with the test."""
    made = []

    def sagemaker(name="mine"):
        settings = {**AWS, "endpoint_url": provider.url, "config": ONCE}
        made.append(SagemakerEndpoint(endpoint_name=name, content_handler=Content(), **settings))
        return made[-1]

    yield sagemaker
    for model in made:
        model.client.close()


ways = pytest.mark.parametrize(
    "installed", [False, True], ids=["one handler", "beside install and another"]
)


def config_of(installed, hooks):
    if not installed:
        return {"callbacks": [MeteringHandler("acme"), hooks]}
    llm_metering.install()
    return {"callbacks": [MeteringHandler("acme"), hooks, MeteringHandler("acme")]}


@ways
def test_two_ends_of_which_the_first_has_the_usage(
    installed, bedrock, hooks, provider, default_meter, events_of
):
    """BedrockLLM ends its run, and so does LangChain: one event, with the usage of the first."""
    bedrock().invoke(asked("acme"), config_of(installed, hooks))

    assert hooks.seen == ["start", "end with usage", "end"]
    (event,) = events_of(default_meter)
    assert billed([event]) == booked(provider)
    assert (event.data["status"], event.data["provenance"]) == ("completed", "reported")
    status = default_meter.statistics()
    assert (status["failures"], status["open_calls"]) == (0, 0)


@ways
def test_an_error_before_the_end_that_has_the_usage(
    installed, bedrock, hooks, provider, default_meter, events_of
):
    """A guardrail intervened: LangChain hears of an error, and then of the usage that is billed."""
    model = bedrock("amazon.titan-text-x+guardrail", guardrails=GUARDRAILS)

    model.invoke(asked("acme"), config_of(installed, hooks))

    assert hooks.seen == ["start", "error", "end with usage", "end"]
    (event,) = events_of(default_meter)
    assert billed([event]) == booked(provider)
    assert event.data["provenance"] == "reported"
    assert default_meter.statistics()["open_calls"] == 0


@ways
@pytest.mark.parametrize("kind", ["bedrock", "sagemaker"])
def test_two_errors_are_one_refusal(
    kind, installed, bedrock, sagemaker, hooks, provider, default_meter, events_of
):
    """Both tell the error themselves, and LangChain does too: one refused call, no event."""
    model = bedrock("amazon.titan-x+refuse400") if kind == "bedrock" else sagemaker("x+refuse400")

    with pytest.raises(Exception, match="400"):
        model.invoke(asked("acme"), config_of(installed, hooks))

    assert hooks.seen == ["start", "error", "error"]
    assert [entry.status for entry in provider.entries] == [400]
    assert events_of(default_meter) == []
    status = default_meter.statistics()
    assert (status["refused_calls"], status["open_calls"], status["failures"]) == (1, 0, 0)


@ways
@pytest.mark.parametrize("kind", ["bedrock", "sagemaker"])
def test_two_errors_of_a_lost_answer_are_one_event(
    kind, installed, bedrock, sagemaker, hooks, default_meter, events_of
):
    """The server failed while it worked: one event that says so, however often it is told."""
    model = bedrock("amazon.titan-x+refuse500") if kind == "bedrock" else sagemaker("x+refuse500")

    with pytest.raises(Exception, match="500"):
        model.invoke(asked("acme"), config_of(installed, hooks))

    assert hooks.seen == ["start", "error", "error"]
    (event,) = events_of(default_meter)
    assert (event.data["status"], event.data["provenance"]) == ("failed", "missing")
    assert default_meter.statistics()["open_calls"] == 0


@ways
def test_an_endpoint_without_usage_is_estimated(
    installed, sagemaker, hooks, provider, default_meter, events_of
):
    """SageMaker's endpoints report nothing: prompt and answer are counted, once."""
    sagemaker().invoke(asked("acme"), config_of(installed, hooks))

    assert hooks.seen == ["start", "end"]
    (event,) = events_of(default_meter)
    assert (event.subject, event.data["provenance"]) == ("acme", "estimated")
    assert event.data["output_tokens"] <= provider.entry.text_bytes
    assert event.data["input_tokens"] > 0 < event.data["output_tokens"]
