"""Whatever an integration, a server or another handler does: an event, flagged; nothing invented."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, ChatMessage, FunctionMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult, Generation, LLMResult

from llm_metering import Meter
from llm_metering.langchain import MeteringHandler
from llm_metering.sinks.memory import MemorySink
from tests.langchain.scripted import Scripted, chunk, usage
from tests.langchain.test_streams import at_the_end, counts_of, summary


def answered(message, **output):
    """A model that answers with whatever is taken for a message."""
    generation = ChatGeneration(message=AIMessage(""))
    generation.message = message
    return Scripted(answer=lambda: ChatResult(generations=[generation], llm_output=output or None))


def end(meter, response):
    """Tell of a call and of its end, as nobody's integration would."""
    handler, run = MeteringHandler("acme", meter=meter), uuid4()
    handler.on_chat_model_start({}, [[HumanMessage("x")]], run_id=run)
    handler.on_llm_end(response, run_id=run)


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(LLMResult(generations=[]), id="no generations"),
        pytest.param(LLMResult(generations=[[]]), id="an empty group"),
        pytest.param(LLMResult(generations=[[], []]), id="empty groups"),
        pytest.param(None, id="nothing"),
        pytest.param("answer", id="a text"),
        pytest.param(SimpleNamespace(generations=None), id="null for generations"),
        pytest.param(SimpleNamespace(generations=[None]), id="null for a group"),
        pytest.param(SimpleNamespace(generations=[[None]]), id="null for a generation"),
        pytest.param(SimpleNamespace(generations=["ab"]), id="a text for a group"),
        pytest.param(SimpleNamespace(generations=7), id="a number for generations"),
    ],
)
def test_a_result_without_an_answer(response, meter, events_of):
    """The call is there; the input may be counted, no output is made up."""
    end(meter, response)

    (event,) = events_of(meter)
    assert event.data["status"] == "completed"
    assert event.data["provenance"] in ("missing", "estimated")
    assert not event.data.get("output_tokens")
    assert meter.statistics()["failures"] == 0


@pytest.mark.parametrize("name", ["response_metadata", "additional_kwargs", "tool_calls", "id"])
@pytest.mark.parametrize(
    "value",
    [None, [], ["x"], "text", 7, {1: 2}, {"model_name": {}, "id": []}],
    ids=["null", "empty list", "list", "text", "number", "odd keys", "odd values"],
)
def test_usage_beside_nonsense_is_billed(name, value, meter, events_of):
    """What stands around the usage costs only itself."""
    message = SimpleNamespace(content="answer", usage_metadata=usage(100, 20))
    setattr(message, name, value)
    end(meter, SimpleNamespace(generations=[[SimpleNamespace(message=message)]]))

    (event,) = events_of(meter)
    assert counts_of(event) == (100, 20)
    assert summary(event) == ("completed", "reported", [])
    assert meter.statistics()["failures"] == 0


@pytest.mark.parametrize("output", [None, [], "text", 7, {"token_usage": "none", "usage": 3}])
def test_an_output_that_is_none(output, meter, events_of):
    """`llm_output` may be anything; the message is read all the same, or the text counted."""
    message = SimpleNamespace(content="an answer")
    result = SimpleNamespace(
        generations=[[SimpleNamespace(message=message, generation_info=output)]], llm_output=output
    )

    end(meter, result)

    (event,) = events_of(meter)
    assert summary(event) == ("completed", "estimated", [])
    assert event.data["output_tokens"] > 0
    assert meter.statistics()["failures"] == 0


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(ChatMessage(role="oracle", content="answer"), id="a role of its own"),
        pytest.param(HumanMessage("answer"), id="a human's"),
        pytest.param(FunctionMessage(name="f", content="answer"), id="a function's"),
        pytest.param(AIMessage([{"type": "hologram", "data": "…"}, "answer"]), id="unknown blocks"),
    ],
)
def test_messages_of_other_kinds(message, meter, events_of):
    """Only LangChain's own answers carry usage; others are counted."""
    answered(message).invoke("x", {"callbacks": [MeteringHandler("acme", meter=meter)]})

    (event,) = events_of(meter)
    assert summary(event) == ("completed", "estimated", [])
    assert event.data["output_tokens"] > 0
    assert meter.statistics()["failures"] == 0


NATIVE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
CONVERSE = {"inputTokens": 100, "outputTokens": 20, "totalTokens": 120}


@pytest.mark.parametrize(
    ("used", "output", "expected", "provenance", "flags"),
    [
        pytest.param({}, {"token_usage": NATIVE}, (100, 20), "reported", [], id="empty"),
        pytest.param(None, {"usage": CONVERSE}, (100, 20), "reported", [], id="Bedrock's names"),
        pytest.param(
            usage(-1, 20),
            {"token_usage": NATIVE},
            (100, 20),
            "reported",
            ["invalid_usage"],
            id="negative, but told elsewhere",
        ),
        pytest.param(
            {"tokens": 7},
            {"token_usage": NATIVE},
            (100, 20),
            "reported",
            ["unknown_usage:tokens"],
            id="unknown, but told elsewhere",
        ),
        pytest.param(
            usage(-1, 20),
            {"token_usage": {"prompt_tokens": -3, "completion_tokens": 1}},
            (None, None),
            "missing",
            ["invalid_usage"],
            id="negative everywhere",
        ),
        pytest.param(usage(True, 20), {}, (None, None), "missing", ["invalid_usage"], id="a truth"),
        pytest.param(usage("100", 20), {}, (None, None), "missing", ["invalid_usage"], id="text"),
        pytest.param(usage(100.0, 20), {}, (100, 20), "reported", [], id="a whole float"),
    ],
)
def test_contradictory_usage(used, output, expected, provenance, flags, meter, events_of):
    """The first that can be true is billed, and what could not is to be seen."""
    message = AIMessage("answer")
    message.usage_metadata = used

    answered(message, **output).invoke("x", {"callbacks": [MeteringHandler("acme", meter=meter)]})

    (event,) = events_of(meter)
    assert counts_of(event) == expected
    assert summary(event) == ("completed", provenance, flags)


@pytest.mark.parametrize(
    ("output", "provenance"),
    [pytest.param(20, "partial", id="the input"), pytest.param(0, "estimated", id="all")],
)
def test_zeros_that_cannot_be_true_are_counted(output, provenance, meter, events_of):
    """LangChain has no way to say that it was not told: no prompt has 0 tokens, and no answer."""
    message = AIMessage("answer", usage_metadata=usage(0, output))

    answered(message).invoke("x", {"callbacks": [MeteringHandler("acme", meter=meter)]})

    (event,) = events_of(meter)
    assert summary(event) == ("completed", provenance, ["zero_usage"])
    assert event.data["output_tokens"] == (output or event.data["output_tokens"]) > 0
    assert event.data["input_tokens"] > 0
    assert "reported_total_tokens" not in event.data


@pytest.mark.parametrize(
    ("info", "expected", "provenance"),
    [
        pytest.param({"usage_metadata": usage(100, 20)}, (100, 20), "reported", id="Google's"),
        pytest.param(
            {"prompt_eval_count": 100, "eval_count": 20}, (100, 20), "reported", id="Ollama's"
        ),
    ],
)
def test_usage_beside_a_completion(info, expected, provenance, meter, events_of):
    """Integrations of completion models leave it beside the text."""
    handler, run = MeteringHandler("acme", meter=meter), uuid4()

    handler.on_llm_start({}, ["x"], run_id=run)
    generation = Generation(text="answer", generation_info=info)
    handler.on_llm_end(LLMResult(generations=[[generation]]), run_id=run)

    (event,) = events_of(meter)
    assert counts_of(event) == expected
    assert summary(event) == ("completed", provenance, [])


def test_ollama_without_its_prompt(meter, events_of):
    """Its server leaves out a count of a prompt that it had in its cache, and LangChain then both."""
    message = AIMessage("answer", response_metadata={"model": "llama", "eval_count": 20})

    answered(message).invoke("x", {"callbacks": [MeteringHandler("acme", meter=meter)]})

    (event,) = events_of(meter)
    assert summary(event) == ("completed", "partial", [])
    assert event.data["output_tokens"] == 20
    assert event.data["input_tokens"] > 0


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param({"token": None}, id="no token"),
        pytest.param({"token": 7, "chunk": None}, id="a number"),
        pytest.param({"token": [None, 7, {"text": []}]}, id="a list of anything"),
        pytest.param({"token": "a", "chunk": "chunk"}, id="a text for a chunk"),
        pytest.param({"token": "a", "chunk": SimpleNamespace(message=7)}, id="no message"),
        pytest.param(
            {
                "token": "a",
                "chunk": SimpleNamespace(
                    message=SimpleNamespace(
                        usage_metadata=[1],
                        response_metadata=[2],
                        tool_call_chunks=[None, {"name": 3, "args": []}],
                        additional_kwargs=[4],
                    )
                ),
            },
            id="a message of anything",
        ),
    ],
)
def test_odd_chunks(odd, meter, events_of):
    """A chunk that cannot be read costs nothing but itself."""
    handler, run = MeteringHandler("acme", meter=meter), uuid4()
    message = AIMessage("answer", usage_metadata=usage(100, 20))

    handler.on_chat_model_start({}, [[HumanMessage("x")]], run_id=run)
    handler.on_llm_new_token(**odd, run_id=run)
    handler.on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]), run_id=run)

    (event,) = events_of(meter)
    assert counts_of(event) == (100, 20)
    assert meter.statistics()["failures"] == 0


class Rude(BaseCallbackHandler):
    """A handler of somebody else's that insists on its failure in one hook."""

    raise_error = True
    run_inline = True

    def __init__(self, hook, error=RuntimeError):
        self._error = error
        setattr(self, hook, self._fail)

    def _fail(self, *args, **kwargs):
        raise self._error("not ours")


@pytest.mark.parametrize(
    "error", [RuntimeError, KeyboardInterrupt], ids=lambda error: error.__name__
)
@pytest.mark.parametrize("hook", ["on_llm_end", "on_llm_new_token"])
def test_a_handler_before_ours_that_stops_the_dispatch(hook, error, home, sink):
    """LangChain then tells ours of no end: the call is there, with the usage its chunks had told."""
    with Meter(home=home, sinks=[sink]) as meter:
        config = {"callbacks": [Rude(hook, error), MeteringHandler("acme", meter=meter)]}
        chunks = Scripted(script=at_the_end).stream("x", config)
        with pytest.raises(error, match="not ours"):
            list(chunks)

    (event,) = sink.events
    if hook == "on_llm_end":
        assert counts_of(event) == (100, 20)
        assert event.data["provenance"] == "reported"
        assert event.data["status"] == "aborted"
        assert event.data["flags"]
    else:
        assert event.data["status"] in ("failed", "aborted")
    assert meter.statistics()["failures"] == 0


def test_a_handler_before_ours_that_stops_the_start(meter, events_of):
    """The application's call fails before it is made; there is nothing to bill."""
    config = {"callbacks": [Rude("on_chat_model_start"), MeteringHandler("acme", meter=meter)]}

    with pytest.raises(RuntimeError, match="not ours"):
        list(Scripted(script=at_the_end).stream("x", config))

    assert events_of(meter) == []
    assert meter.statistics()["open_calls"] == 0


NAMES = st.sampled_from(
    [
        *("input_tokens", "output_tokens", "total_tokens", "total_cost"),
        *("input_token_details", "output_token_details", "cache_read", "reasoning", "audio"),
        *("token_usage", "usage", "usage_metadata", "prompt_tokens", "completion_tokens"),
        *("prompt_eval_count", "eval_count", "inputTokens", "outputTokens", "body", "status"),
        *("model_name", "id", "finish_reason", "model_provider", "ResponseMetadata", "headers"),
    ]
)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats()
    | st.sampled_from(["google_genai", "anthropic", "7", "", "\ud800", "completed"])
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
COUNT = st.integers(0, 50) | st.integers(-5, 10**12) | st.sampled_from([None, True, 7.0, 1.5, "7"])
DETAILS = st.dictionaries(st.sampled_from(["cache_read", "cache_creation", "reasoning"]), COUNT)
USAGE = st.fixed_dictionaries(
    {"input_tokens": COUNT, "output_tokens": COUNT},
    optional={
        "total_tokens": COUNT,
        "total_cost": COUNT,
        "input_token_details": DETAILS | JSON,
        "output_token_details": DETAILS | JSON,
    },
)
NATIVE_USAGE = st.dictionaries(NAMES, COUNT | JSON, max_size=4)


def numbers_in(value):
    """All numbers of 0 and more that stand anywhere in something."""
    if isinstance(value, dict):
        return {n for inner in value.values() for n in numbers_in(inner)}
    if isinstance(value, list | tuple):
        return {n for inner in value for n in numbers_in(inner)}
    return {value} if isinstance(value, int | float) and value >= 0 else set()


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    """A meter for all examples, which counts nothing itself: what it knows was reported."""
    sink = MemorySink()
    with Meter(home=tmp_path_factory.mktemp("home"), sinks=[sink]) as meter:
        yield meter, sink


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    used=USAGE | JSON,
    metadata=NATIVE_USAGE | JSON,
    output=st.fixed_dictionaries({"token_usage": NATIVE_USAGE | JSON}) | JSON,
    info=NATIVE_USAGE | JSON,
    chunks=st.lists(USAGE | JSON, max_size=3),
    odd=JSON,
)
def test_whatever_is_handed_over(fuzzed, used, metadata, output, info, chunks, odd):
    """No hook raises or fails, each call is one event, and each count in it is one that was told."""
    meter, sink = fuzzed
    handler = MeteringHandler("acme", meter=meter)
    before, run, error = len(sink.events), uuid4(), ValueError()
    failures = meter.statistics()["failures"]
    message = SimpleNamespace(content="", usage_metadata=used, response_metadata=metadata)
    generation = SimpleNamespace(message=message, generation_info=info)
    result = SimpleNamespace(generations=[[generation]], llm_output=output)

    handler.on_chat_model_start(odd, [[HumanMessage("")]], run_id=run, metadata=None)
    for each in chunks:
        piece = chunk("")
        piece.message.response_metadata = metadata
        piece.message.usage_metadata = each
        handler.on_llm_new_token("", chunk=piece, run_id=run)
        handler.on_stream_event({"event": odd, "usage": each, "delta": odd}, run_id=run)
    if len(chunks) % 2:
        handler.on_llm_error(error, response=result, run_id=run)
    else:
        handler.on_llm_end(result, run_id=run)
    meter.calls.close()
    assert meter.flush()

    assert meter.statistics()["failures"] == failures
    (event,) = sink.events[before:]
    if event.data["provenance"] == "reported" and event.data["status"] != "cached":
        told = numbers_in([used, metadata, output, info, chunks])
        for counts in counts_of(event):
            assert counts in told or is_sum(counts, chunks)


def is_sum(count, chunks):
    """Whether a count is that of several chunks together."""
    names = ("input_tokens", "output_tokens")
    reports = [each for each in chunks if isinstance(each, dict)]
    return any(sum(each.get(name) or 0 for each in reports) == count for name in names)
