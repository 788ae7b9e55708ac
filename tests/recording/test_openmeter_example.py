"""The events of OpenMeter's own OpenAI example, from a recorded response to its meters.

Source: `examples/ingest-openai-node/app.ts` of
https://github.com/openmeterio/openmeter at 7812ce70d^, and the meter `m2` beside it; an older revision
of the example, and OpenMeter's article on metering OpenAI, send fewer keys of the same.
"""

from __future__ import annotations

from openai.types.chat import ChatCompletion

from llm_metering import Meter
from llm_metering.testing import OpenMeterServer

COMPLETION = ChatCompletion.model_validate(
    {
        "id": "chatcmpl-7fQ2",
        "object": "chat.completion",
        "created": 1_705_420_800,
        "model": "gpt-3.5-turbo-0613",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi!"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 13, "completion_tokens": 9, "total_tokens": 22},
    }
)


def test_both_payloads_arrive_literally_and_are_summed(home):
    """Id, type, time and data are those of the example; a retry of the batch counts nothing twice."""
    with OpenMeterServer() as server:
        sink = f"openmeter+{server.url}?shape=openai"
        with Meter(home, [sink], source="my-app", event_id="response", ledger=False) as meter:
            meter.record(COMPLETION, subject="my-awesome-user-id")
            assert meter.flush()
            meter.record(COMPLETION.model_copy(), subject="my-awesome-user-id")
            assert meter.flush()
        (event,) = server.events
        assert len(server.received) == 2

        assert {key: event[key] for key in ("id", "source", "type", "subject", "time")} == {
            "id": COMPLETION.id,
            "source": "my-app",
            "type": "openai",
            "subject": "my-awesome-user-id",
            "time": "2024-01-16T16:00:00.000Z",
        }
        example = {
            "total_tokens": 22,
            "prompt_tokens": 13,
            "completion_tokens": 9,
            "model": "gpt-3.5-turbo-0613",
        }
        article = {"tokens": 22, "model": "gpt-3.5-turbo-0613"}
        assert event["data"] == {**example, **article}
        by_model = {("gpt-3.5-turbo-0613",): 22}
        assert server.total("$.total_tokens", group_by=["$.model"]) == by_model
        assert server.total("$.tokens", group_by=["$.model"]) == by_model
