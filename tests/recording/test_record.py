"""`record`: what a provider's own client answered becomes one event, whatever it is."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pytest
from langchain_core.messages import AIMessage

import llm_metering
from llm_metering import Meter, TokenUsage
from llm_metering.errors import InvalidArgumentError, InvalidUsageError, SubjectError
from tests.forking import in_child

USAGE = TokenUsage(input_tokens=100, output_tokens=20)
COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "gpt-5-mini-2026-08-07",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "the secret answer"},
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 64},
        "completion_tokens_details": {"reasoning_tokens": 7},
    },
}
MESSAGES = [{"role": "user", "content": "the secret prompt"}]


def without_usage():
    body = {key: value for key, value in COMPLETION.items() if key != "usage"}
    return {**body, "model": "gpt-4o-mini-2024-07-18"}


def ask(client, **more):
    return client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "Hello"}], max_tokens=5, **more
    )


def test_a_response_is_one_event_with_all_it_says(meter, events):
    """Who answered, with what, when, how many tokens of each kind; and not what was answered."""
    returned = meter.record(COMPLETION, subject="acme", dimensions={"feature": "search"})

    (event,) = events()
    assert (event.id, event.source, event.subject) == (returned.id, "tests", "acme")
    assert event.time == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert event.data == {
        "model": "gpt-5-mini-2026-08-07",
        "provider": "openai",
        "operation": "chat",
        "total_tokens": 120,
        "input_tokens": 100,
        "output_tokens": 20,
        "cache_read_input_tokens": 64,
        "reasoning_output_tokens": 7,
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "reported_total_tokens": 120,
        "calls": 1,
        "provenance": "reported",
        "status": "completed",
        "response_id": "chatcmpl-1",
        "feature": "search",
    }


def test_what_the_server_counted_is_what_is_recorded(meter, events, client, model_server):
    """Its own counters are a second source of truth; the SDK's object is read as it is."""
    before = model_server.counters()
    for _ in range(3):
        meter.record(ask(client), subject="acme")
    after = model_server.wait_until_idle()

    data = [event.data for event in events()]
    assert len(data) == 3
    assert sum(each["output_tokens"] for each in data) == after.predicted - before.predicted
    assert sum(each["input_tokens"] for each in data) == after.prompt - before.prompt


def test_an_anthropic_message_is_read_too(meter, events, claude):
    """The other shape the server speaks, through the other SDK."""
    message = claude.messages.create(
        model="tiny", max_tokens=5, messages=[{"role": "user", "content": "Hello"}]
    )
    meter.record(message, subject="acme")

    (event,) = events()
    assert event.data["provider"] == "anthropic"
    assert event.data["output_tokens"] == message.usage.output_tokens
    assert event.data["input_tokens"] == (
        message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0)
    )


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(lambda body: body, id="dict"),
        pytest.param(json.dumps, id="JSON"),
        pytest.param(lambda body: json.dumps(body).encode(), id="JSON in bytes"),
        pytest.param(lambda body: bytearray(json.dumps(body).encode()), id="a buffer"),
    ],
)
def test_the_body_may_come_as_it_is(meter, form):
    """Whoever talks to the API without an SDK has a dict, a string or bytes."""
    event = meter.record(form(COMPLETION), subject="acme")

    assert event.usage.total_tokens == 120


def test_one_object_is_one_event(meter, events, client):
    """Two places of a program that both record a response do not bill it twice."""
    response = ask(client)
    first = meter.record(response, subject="acme")
    again = meter.record(response, subject="other")

    assert again is first
    assert [event.subject for event in events()] == ["acme"]


def test_one_object_recorded_by_many_threads_is_one_event(meter, events, client):
    """Also when they do it at the same moment."""
    response = ask(client)
    barrier = threading.Barrier(8)

    def record():
        barrier.wait()
        meter.record(response, subject="acme")

    threads = [threading.Thread(target=record) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(events()) == 1


def test_equal_objects_are_two_calls(meter, events, client):
    """The same question may get the same answer: both were paid for."""
    response = ask(client)
    copy = response.model_copy(deep=True)
    assert copy == response
    meter.record(response, subject="acme")
    meter.record(copy, subject="acme")
    meter.record(COMPLETION, subject="acme")
    meter.record(COMPLETION, subject="acme")
    meter.record(USAGE, subject="acme")
    meter.record(USAGE, subject="acme")

    assert len({event.id for event in events()}) == 6


def test_an_object_at_the_address_of_another_is_a_new_one(meter, events, client):
    """Python gives the address of what was collected to the next object."""
    response = ask(client)
    for _ in range(20):
        meter.record(response.model_copy(deep=True), subject="acme")
        gc.collect()

    assert len(events()) == 20
    assert len(meter._records._seen) == 0


def test_a_key_makes_any_number_of_calls_one_event(home, events, meter, client):
    """In another process too, since the id is made of the source and the key."""
    first = meter.record(COMPLETION, subject="acme", idempotency_key="order-1")
    again = meter.record(ask(client), subject="acme", idempotency_key="order-1")
    other = meter.record(COMPLETION, subject="acme", idempotency_key="order-2")

    assert first.id == again.id != other.id
    assert first.id == llm_metering.events.keyed_event_id("tests", "order-1")
    assert meter.usage("calls_total").rows[0].value == 2


def test_a_child_does_not_record_what_its_parent_did(home, meter, events, client):
    """It was forked with the object that was recorded before."""
    response = ask(client)
    meter.record(response, subject="acme")
    assert in_child(lambda: meter.record(response, subject="acme") is not None and meter.flush())

    assert meter.usage("calls_total").rows[0].value == 1


def test_who_pays_is_found_in_the_same_order(home):
    """The argument, the scope, the default; else nobody, and that is flagged."""
    with Meter(home, sinks=(), subject="default") as meter:
        with llm_metering.subject("scope", feature="search"):
            assert meter.record(USAGE, "argument", dimensions={"step": "1"}).subject == "argument"
            inside = meter.record(USAGE, dimensions={"step": "1"})
        assert (inside.subject, inside.dimensions) == ("scope", {"feature": "search", "step": "1"})
        assert meter.record(USAGE).subject == "default"
    with Meter(home, sinks=()) as meter:
        nobody = meter.record(USAGE)
        assert (nobody.subject, nobody.flags) == ("unattributed", ("unattributed",))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        pytest.param({}, InvalidArgumentError, id="nothing"),
        pytest.param({"response": USAGE, "subject": ""}, SubjectError, id="empty subject"),
        pytest.param({"response": USAGE, "subject": 42}, SubjectError, id="subject no string"),
        pytest.param({"response": USAGE, "dimensions": {"a": 1}}, SubjectError, id="dimension"),
        pytest.param(
            {"response": USAGE, "dimensions": {"reported_cost": "1"}}, SubjectError, id="our key"
        ),
        pytest.param({"response": USAGE, "model": ""}, InvalidArgumentError, id="empty model"),
        pytest.param({"response": USAGE, "provider": 3}, InvalidArgumentError, id="provider"),
        pytest.param(
            {"response": USAGE, "time": datetime(2026, 1, 1)}, InvalidArgumentError, id="naive time"
        ),
        pytest.param(
            {"response": USAGE, "time": "yesterday"}, InvalidArgumentError, id="time no time"
        ),
        pytest.param(
            {"response": USAGE, "time": 1_700_000_000}, InvalidArgumentError, id="time a number"
        ),
        pytest.param(
            {"response": USAGE, "idempotency_key": ""}, InvalidArgumentError, id="empty key"
        ),
        pytest.param({"quantity": 3}, InvalidArgumentError, id="no unit"),
        pytest.param({"unit": "images"}, InvalidArgumentError, id="no quantity"),
        pytest.param({"quantity": 3, "unit": " "}, InvalidArgumentError, id="blank unit"),
        pytest.param({"quantity": True, "unit": "images"}, InvalidArgumentError, id="bool"),
        pytest.param({"quantity": "3", "unit": "images"}, InvalidArgumentError, id="string"),
        pytest.param({"quantity": -1, "unit": "images"}, InvalidUsageError, id="negative"),
        pytest.param({"quantity": float("nan"), "unit": "s"}, InvalidUsageError, id="NaN"),
        pytest.param({"quantity": 10**30, "unit": "s"}, InvalidUsageError, id="absurd"),
        pytest.param({"response": USAGE, "modell": "x"}, TypeError, id="unknown keyword"),
    ],
)
def test_bad_arguments_are_refused(meter, events, arguments, error):
    """They are the program's mistake, told where it is made; nothing is recorded."""
    with pytest.raises(error):
        meter.record(**arguments)

    assert events() == []


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({}, id="empty"),
        pytest.param({"usage": {"prompt_tokenz": 3}}, id="unknown usage"),
        pytest.param({"usage": {"prompt_tokens": -3, "completion_tokens": 1}}, id="negative"),
        pytest.param({"usage": {"prompt_tokens": "3", "completion_tokens": 1}}, id="a string"),
        pytest.param("no JSON", id="text"),
        pytest.param(b"\xff\xfe", id="bytes"),
        pytest.param("[" * 100_000, id="deep"),
        pytest.param(object(), id="an object"),
        pytest.param(3.5, id="a number"),
        pytest.param([], id="a list"),
    ],
)
def test_bad_content_is_an_event_without_counts(meter, events, content):
    """What a provider sends never raises: the call is there, missing, and flagged."""
    event = meter.record(content, subject="acme")

    assert (event.provenance, event.usage) == ("missing", None)
    assert event.flags
    (recorded,) = events()
    assert recorded.data["calls"] == 1
    assert "total_tokens" not in recorded.data


def test_an_unknown_shape_is_flagged_with_its_keys(meter):
    """So that whoever reads `status` sees what the provider sends now."""
    event = meter.record({"usage": {"prompt_tokenz": 3, "the secret": 1}}, subject="acme")

    (flag,) = event.flags
    assert flag.startswith("unknown_usage")
    assert "prompt_tokenz" in flag
    assert "secret" not in flag


def test_contradictory_counts_are_kept_and_flagged(meter, events):
    """A total that is not the sum of its parts stays beside ours."""
    body = {**COMPLETION, "usage": {**COMPLETION["usage"], "total_tokens": 154}}
    meter.record(body, subject="acme")

    (event,) = events()
    assert (event.data["total_tokens"], event.data["reported_total_tokens"]) == (120, 154)
    assert event.data["flags"] == ["usage_inconsistent"]


def test_a_refusal_makes_no_event(meter, events):
    """The provider took no token; `status` counts it."""
    error = {"error": {"code": "model_not_found", "message": "the secret model"}}

    assert meter.record(error, subject="acme") is None
    assert events() == []
    assert meter.statistics()["refused_calls"] == 1


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        pytest.param("2026-11-21T20:19:00+01:00", "2026-11-21T19:19:00+00:00", id="ISO 8601"),
        pytest.param(
            datetime(2026, 11, 21, 20, tzinfo=timezone(timedelta(hours=5))),
            "2026-11-21T15:00:00+00:00",
            id="datetime",
        ),
    ],
)
def test_the_time_may_be_given(meter, time, expected):
    """Then it holds, whatever the provider's clock says."""
    assert meter.record(COMPLETION, "acme", time=time).time.isoformat() == expected


@pytest.mark.parametrize(
    "created",
    [
        pytest.param(0, id="1970"),
        pytest.param(-1, id="before"),
        pytest.param(1_700_000_000_000, id="milliseconds"),
        pytest.param(10**400, id="no time"),
        pytest.param("soon", id="text"),
        pytest.param(True, id="bool"),
        pytest.param(None, id="null"),
    ],
)
def test_an_implausible_time_is_not_taken(meter, created):
    """A response cannot move a call into another month's bill."""
    before = datetime.now(UTC)
    event = meter.record({**COMPLETION, "created": created}, "acme")

    assert before <= event.time <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("quantity", "unit", "expected"),
    [
        pytest.param(3, "images", 3, id="images"),
        pytest.param(0, "images", 0, id="none"),
        pytest.param(12.5, "gpu_seconds", 12.5, id="seconds"),
        pytest.param(Decimal("0.25"), "hours", 0.25, id="decimal"),
        pytest.param(1, "api_calls", 1, id="API calls"),
    ],
)
def test_any_unit_can_be_recorded(meter, events, quantity, unit, expected):
    """What is no token is a quantity of its unit, and no call to a model."""
    meter.record(quantity=quantity, unit=unit, subject="acme", provider="self")

    (event,) = events()
    assert event.data == {
        "provider": "self",
        "quantity": expected,
        "unit": unit,
        "provenance": "reported",
        "status": "completed",
    }


def test_a_response_may_have_a_quantity_beside_its_tokens(meter, events):
    """It is one event, and one call."""
    meter.record(COMPLETION, "acme", quantity=2, unit="images")

    (event,) = events()
    assert (event.data["total_tokens"], event.data["quantity"], event.data["calls"]) == (120, 2, 1)


def test_the_caller_may_say_what_the_response_does_not(meter):
    """A compatible server cannot be told from OpenAI by its answer; what it says itself stays."""
    event = meter.record(
        COMPLETION, "acme", provider="fireworks", model="accounts/x/models/y", operation="rank"
    )

    assert (event.provider, event.operation) == ("fireworks", "chat")
    assert (event.model, event.request_model) == ("gpt-5-mini-2026-08-07", "accounts/x/models/y")
    bare = meter.record(USAGE, "acme", model="gpt-5-mini")
    assert (bare.model, bare.request_model) == ("gpt-5-mini", "gpt-5-mini")
    assert meter.record(USAGE, "acme", operation="rank").operation == "rank"


def test_a_response_without_usage_is_counted(meter, events):
    """At once there is an estimate; the count follows under the same id."""
    event = meter.record(
        without_usage(), "acme", request={"model": "gpt-4o-mini", "messages": MESSAGES}
    )
    (recorded,) = events()

    assert (event.provenance, event.count_method) == ("estimated", "characters")
    assert recorded.id == event.id
    assert recorded.data["provenance"] == "estimated"
    assert recorded.data["count_method"] == "tiktoken:o200k_base"
    # "the secret answer" is three tokens, "the secret prompt" three and the frame around it.
    assert recorded.data["output_tokens"] == 3
    assert recorded.data["input_tokens"] == 3 + 7
    assert recorded.data["request_model"] == "gpt-4o-mini"


def test_without_the_request_only_the_answer_is_counted(meter, events):
    """There is no total then: half of one would look like one."""
    meter.record(without_usage(), "acme")

    (event,) = events()
    assert event.data["output_tokens"] == 3
    assert "input_tokens" not in event.data
    assert "total_tokens" not in event.data


def test_what_a_ready_usage_does_not_know_is_counted(meter, events):
    """The count that is known stays, and the one that is not is taken from the request."""
    event = meter.record(
        TokenUsage(output_tokens=20), "acme", model="gpt-4o-mini", request={"messages": MESSAGES}
    )
    (recorded,) = events()

    assert (event.provenance, event.usage.output_tokens) == ("partial", 20)
    assert event.usage.input_tokens > 0
    assert recorded.id == event.id
    assert (recorded.data["provenance"], recorded.data["output_tokens"]) == ("partial", 20)
    assert recorded.data["input_tokens"] > 0


def test_nothing_of_the_content_is_written_anywhere(meter, events, home):
    """Neither in the journal nor in the ledger, whatever way it was recorded."""
    meter.record(COMPLETION, "acme", request={"messages": MESSAGES})
    meter.record(without_usage(), "acme", request={"messages": MESSAGES})
    meter.record({"odd": "secret"}, "acme")
    assert len(events()) == 3

    for path in home.rglob("*"):
        if path.is_file():
            assert b"secret" not in path.read_bytes(), path


def test_a_killed_process_leaves_the_estimate(home):
    """It dies between the end of the call and its count: the next process records the estimate."""

    def die():
        meter = Meter(home, sinks=(), source="tests")
        meter._counting._has_thread = lambda: None  # nothing is counted in this process
        meter.record(without_usage(), "acme", request={"messages": MESSAGES})
        os._exit(0)

    assert in_child(die)
    with Meter(home, sinks=()) as meter:
        assert meter.usage("calls_total").rows[0].value == 1
        (row,) = meter.usage(group_by=["provenance", "count_method"]).rows
        assert row.group_by == {"provenance": "estimated", "count_method": "characters"}
        assert row.value > 0


def test_the_default_meter_records(home, monkeypatch):
    """Without a meter of one's own there is the process's."""
    llm_metering.configure(home=home, sinks=())
    try:
        event = llm_metering.record(COMPLETION, subject="acme")
        assert event.subject == "acme"
        assert llm_metering.usage(subject="acme").rows[0].value == 120
    finally:
        llm_metering.close()


def test_two_meters_record_one_response_under_one_id(meter, events, tmp_path, client):
    """Where their books meet it counts once; so it does when the default meter is made anew."""
    response = ask(client)
    with Meter(tmp_path / "other", sinks=(), source="tests") as other:
        assert other.record(response, "acme").id == meter.record(response, "acme").id
        assert other.usage("calls_total").rows[0].value == 1
    assert len(events()) == 1


def test_an_object_keeps_its_id_when_a_key_comes_later(meter, events, client):
    """Two places of a program record it, one of them with a key."""
    response = ask(client)
    first = meter.record(response, "acme")

    assert meter.record(response, "acme", idempotency_key="k").id == first.id
    assert len(events()) == 1


def test_a_fork_beside_a_recording_thread_does_not_hang(meter, client):
    """The child has none of its parent's locks."""
    response = ask(client)
    stop = threading.Event()

    def record():
        while not stop.is_set():
            meter.record(response.model_copy(), "acme")

    thread = threading.Thread(target=record)
    thread.start()
    try:
        for _ in range(5):
            assert in_child(lambda: meter.record(response.model_copy(), "acme") is not None)
    finally:
        stop.set()
        thread.join()


def test_a_script_that_ends_at_once_has_its_calls_counted(home):
    """The tokenizer is loaded while the interpreter ends, where much can no longer be imported."""
    script = f"""
import llm_metering
llm_metering.configure(home={str(home)!r}, sinks=())
body = {{"id": "c", "object": "chat.completion", "model": "gpt-4o-mini",
    "choices": [{{"index": 0, "message": {{"content": "a secret"}}, "finish_reason": "stop"}}]}}
llm_metering.record(body, "acme")
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)

    with Meter(home, sinks=()) as meter:
        (row,) = meter.usage("tokens_output", group_by=["count_method"]).rows
        assert row.group_by == {"count_method": "tiktoken:o200k_base"}


def test_a_response_that_is_not_finished_is_not_billed(meter, events):
    """OpenAI's background mode is polled: only the finished response has a price."""
    body = {"id": "resp_1", "object": "response", "created_at": 1_700_000_000, "model": "gpt-5"}
    for status in ("queued", "in_progress"):
        polled = {**body, "status": status, "usage": None, "output": []}
        assert meter.record(polled, "acme", request={"input": "x"}) is None
    usage = {"input_tokens": 8, "output_tokens": 2, "total_tokens": 10}
    meter.record({**body, "status": "completed", "usage": usage, "output": []}, "acme")

    (event,) = events()
    assert event.data["total_tokens"] == 10
    assert meter.statistics()["unfinished_responses"] == 2


def test_an_answer_of_langchains_cache_costs_nothing(meter, events):
    """It bears the usage of the call that filled the cache, and a mark."""
    usage = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120, "total_cost": 0}
    meter.record(AIMessage("a secret", usage_metadata=usage), "acme")

    (event,) = events()
    assert (event.data["status"], event.data["provenance"]) == ("cached", "reported")
    assert event.data["total_tokens"] == 0


def test_what_is_billed_by_the_second_is_not_tokenized(meter, events):
    """A transcription's price is its length, and its text is no output tokens."""
    body = {"text": "a secret", "usage": {"type": "duration", "seconds": 9}}
    meter.record(body, "acme", model="whisper-1")

    (event,) = events()
    assert event.data["audio_seconds"] == 9
    assert "output_tokens" not in event.data


def test_a_record_that_was_broken_off_can_be_made_again(meter, events, client, monkeypatch):
    """Ctrl-C between our note of the object and the write: the second attempt is no repetition."""
    response = ask(client)

    def interrupted(*_):
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(meter._journal, "record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        meter.record(response, "acme")
    event = meter.record(response, "acme")

    assert [each.id for each in events()] == [event.id]


def test_numbers_of_other_libraries_are_numbers(meter, events):
    """numpy's floats are floats, and JSON encoders do not know them."""
    usage = {**COMPLETION["usage"], "cost": np.float64(0.25), "is_byok": False}
    meter.record({**COMPLETION, "usage": usage}, "acme")

    (event,) = events()
    assert event.data["reported_cost"] == 0.25
