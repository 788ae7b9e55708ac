"""Our handlers on LlamaIndex's dispatcher: once, for good, and no burden on anybody else's."""

from __future__ import annotations

import gc
import importlib
import subprocess
import sys

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.llm import (
    LLMChatEndEvent,
    LLMChatStartEvent,
    LLMCompletionEndEvent,
    LLMCompletionStartEvent,
)
from llama_index.core.llms import CompletionResponse, MockLLM
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.prompts import PromptTemplate
from llama_index_instrumentation.span_handlers import SimpleSpanHandler
from pydantic import BaseModel

import llm_metering
from llm_metering import subject
from llm_metering.llamaindex import MeteringHandler, dispatchers
from tests.books import billed, owed, prompt
from tests.llamaindex.asking import WAYS, messages
from tests.llamaindex.clients import CLIENTS


@pytest.fixture
def installed(default_meter):
    """Every call is metered."""
    llm_metering.install()
    return default_meter


def ours():
    root = get_dispatcher()
    handlers = [*root.event_handlers, *root.span_handlers]
    return [each for each in handlers if type(each).__module__.startswith("llm_metering")]


def test_install_can_be_run_again(provider, installed, events_of):
    """A notebook cell is; LlamaIndex takes any number of handlers, and bills each call as often."""
    llm_metering.install()
    MeteringHandler("acme")
    llm_metering.install()

    CLIENTS["openai"](provider).chat(messages("?"))

    assert len(ours()) == 2
    assert len(events_of(installed)) == 1


def test_a_package_that_is_imported_anew_takes_the_place_of_the_old_one(
    provider, installed, events_of
):
    """`isinstance` knows nothing of a handler whose class was defined before."""
    before = ours()
    old = {
        name: module for name, module in sys.modules.items() if "llm_metering.llamaindex" in name
    }
    for name in old:
        del sys.modules[name]
    try:
        importlib.import_module("llm_metering.llamaindex.dispatchers").put()
        after = ours()
        CLIENTS["openai"](provider).chat(messages("?"))
    finally:
        sys.modules.update(old)
        llm_metering.llamaindex = old["llm_metering.llamaindex"]
        dispatchers.put()

    assert len(after) == 2
    assert not [each for each in after if any(each is other for other in before)]
    assert len(events_of(installed)) == 1


def test_llamaindexs_own_span_handler_may_stand_beside_ours(provider, default_meter, events_of):
    """`class_name` of `SimpleSpanHandler` is no class method, as it is of all others."""
    get_dispatcher().add_span_handler(SimpleSpanHandler())

    llm_metering.install()
    CLIENTS["openai"](provider).chat(messages("?"))

    assert len(ours()) == 2
    assert len(events_of(default_meter)) == 1


def test_other_handlers_stay_where_they_are(installed):
    """Handlers compare by their fields; only ours are taken for ours."""

    class Theirs(BaseEventHandler):
        def handle(self, event, **kwargs):
            pass

    root = get_dispatcher()
    first, second = Theirs(), Theirs()
    root.add_event_handler(first)
    root.add_event_handler(second)

    llm_metering.install()

    assert [each for each in root.event_handlers if each is first or each is second] == [
        first,
        second,
    ]


def test_somebody_elses_handler_that_raises_costs_us_nothing(provider, installed, events_of):
    """LlamaIndex swallows it, silently, and goes on to ours."""

    class Raising(BaseEventHandler):
        def handle(self, event, **kwargs):
            raise RuntimeError("on a bad day")

    get_dispatcher().event_handlers.insert(0, Raising())
    with subject("acme"):
        CLIENTS["openai"](provider).chat(messages(prompt("acme")))

    assert billed(events_of(installed)) == owed(provider)


def test_after_uninstall_nothing_new_is_metered(provider, installed, events_of):
    """What is under way settles, and a handler of a model's own goes on."""
    llm = CLIENTS["responses"](provider)
    with subject("acme"):
        stream = llm.stream_chat(messages(prompt("acme")))

    llm_metering.uninstall()
    list(stream)
    CLIENTS["openai"](provider).chat(messages("?"))
    assert len(events_of(installed)) == 1

    manager = CallbackManager([MeteringHandler("acme")])
    CLIENTS["openai"](provider, callback_manager=manager).chat(messages("?"))
    assert len(events_of(installed)) == 2


def test_a_failure_of_ours_is_counted_and_nothing_else(provider, installed, events_of, monkeypatch):
    """LlamaIndex would swallow it without a trace; the application's call goes on."""

    def fail(*_, **__):
        raise RuntimeError("ours")

    monkeypatch.setattr("llm_metering.llamaindex.event_handler.begin_call", fail)
    answer = CLIENTS["openai"](provider).chat(messages("?"))

    assert answer.message.content
    assert installed.statistics()["failures"] == 1


def test_events_of_older_cores_name_the_model_differently(installed, events_of):
    """Until llama-index-core 0.14.22 a model's payload had `model`, later `model_name`."""
    dispatcher = get_dispatcher("llama_index.core.llms.callbacks")
    for key in ("model", "model_name"):
        dispatcher.event(
            LLMCompletionStartEvent(
                prompt="?", additional_kwargs={}, model_dict={key: key}, span_id=f"X.complete-{key}"
            )
        )
        response = CompletionResponse(text="Hi")
        dispatcher.event(
            LLMCompletionEndEvent(prompt="?", response=response, span_id=f"X.complete-{key}")
        )

    assert [each.data["request_model"] for each in events_of(installed)] == ["model", "model_name"]


def test_a_call_outside_of_any_span_is_a_call(installed, events_of):
    """A dispatcher of the user's own may tell of an event that has no span."""
    dispatcher = get_dispatcher("mine")
    asked = [ChatMessage(content="?")]
    for _ in range(2):
        dispatcher.event(LLMChatStartEvent(messages=asked, additional_kwargs={}, model_dict={}))
        dispatcher.event(LLMChatEndEvent(messages=asked, response=None))

    assert len(events_of(installed)) == 2
    assert installed.statistics()["open_calls"] == 0


def test_an_event_of_somebodys_own_kind_is_what_it_is_derived_from(installed, events_of):
    """Whoever derives an event of LlamaIndex's means one."""

    class Mine(LLMChatStartEvent):
        pass

    dispatcher = get_dispatcher("mine")
    asked = [ChatMessage(content="?")]
    dispatcher.event(Mine(messages=asked, additional_kwargs={}, model_dict={}))
    dispatcher.event(LLMChatEndEvent(messages=asked, response=None))

    assert len(events_of(installed)) == 1


@pytest.mark.parametrize("way", ["complete", "chat", "stream_complete"])
def test_a_model_that_tells_nothing_is_metered_by_its_spans(installed, events_of, way):
    """Without `@llm_completion_callback` a model of the user's own has spans and no events."""
    raw = {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}}],
        "usage": {"prompt_tokens": 8, "completion_tokens": 1, "total_tokens": 9},
    }

    class Plain(MockLLM):
        def complete(self, prompt_, formatted=False, **kwargs):
            return CompletionResponse(text="Hi", raw=raw)

        def stream_complete(self, prompt_, formatted=False, **kwargs):
            yield CompletionResponse(text="Hi", delta="Hi", raw=raw)

        @llm_completion_callback()
        def unrelated(self):
            return None

    llm = Plain()
    if way == "chat":
        llm.chat(messages("?"))
    elif way == "complete":
        llm.complete("?")
    else:
        list(llm.stream_complete("?"))

    (event,) = events_of(installed)
    if way == "stream_complete":
        # Nobody tells of its pieces, and no provider was seen to answer.
        assert (event.data["provenance"], event.data["flags"]) == (
            "missing",
            ["unattributed", "unseen_usage"],
        )
    else:
        assert (event.data["input_tokens"], event.data["output_tokens"]) == (8, 1)


@pytest.mark.parametrize("way", ["chat", "stream_chat", "astream_chat"])
def test_a_dispatcher_that_hands_nothing_on_hides_no_call(provider, installed, events_of, way):
    """With `propagate = False` its events reach no handler on the root; spans and taps remain."""
    dispatcher = get_dispatcher("llama_index.core.llms.callbacks")
    dispatcher.propagate = False
    try:
        asked = {"stream_options": {"include_usage": True}}
        llm = CLIENTS["openai"](provider, additional_kwargs=asked)
        with subject("acme"):
            WAYS[way](llm, prompt("acme"))
        gc.collect()
    finally:
        dispatcher.propagate = True

    assert billed(events_of(installed)) == owed(provider)
    assert [event.data["status"] for event in events_of(installed)] == ["completed"]


class Answer(BaseModel):
    """A user's own object with the attributes of an answer of LlamaIndex's."""

    raw: dict = {"usage": {"prompt_tokens": 7, "completion_tokens": 7}}
    text: str = "not an answer"
    additional_kwargs: dict = {"prompt_tokens": 7, "completion_tokens": 7}


def test_what_a_structured_method_returns_is_no_answer(installed, events_of):
    """Of `structured_predict` that a model answers by itself, the result is the user's own object."""

    class Own(MockLLM):
        def structured_predict(self, output_cls, prompt, llm_kwargs=None, **prompt_args):
            return output_cls()

    for _ in range(2):
        Own().structured_predict(Answer, PromptTemplate("?"))

    for event in events_of(installed):
        assert event.data["provenance"] == "missing"
        assert "unseen_usage" in event.data["flags"]


def test_llamaindex_is_not_imported_before_it_is_used(tmp_path):
    """It takes more than a second, in a program that may use LangChain alone."""
    code = (
        "import sys, llm_metering\n"
        "llm_metering.install()\n"
        "assert 'llama_index.core' not in sys.modules\n"
        "from llama_index.core.llms import MockLLM\n"
        "MockLLM().complete('hello')\n"
        "llm_metering.uninstall()\n"
        "MockLLM().complete('hello')\n"
        "llm_metering.flush()\n"
        "print([row.value for row in llm_metering.usage(meter='calls_total')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"LLM_METERING_HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.strip() == "[1]", done.stderr


def test_handlers_that_come_before_the_first_span_hear_all_of_it(tmp_path):
    """Ours take their place in the middle of a dispatch, where others stand behind; each hears once."""
    code = """
import sys
import llm_metering
from llm_metering.sinks.memory import MemorySink

sink = MemorySink()
llm_metering.configure(sinks=[sink])
llm_metering.install()
assert "llama_index.core" not in sys.modules

from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.span_handlers import SimpleSpanHandler

theirs = SimpleSpanHandler()
get_dispatcher().add_span_handler(theirs)

from llama_index.core.llms import MockLLM
from llama_index.core.prompts import PromptTemplate

class Silent(MockLLM):
    def structured_predict(self, kind, prompt, **kwargs):
        return kind()

Silent().structured_predict(dict, PromptTemplate("?"))
assert llm_metering.flush(60)
print(len(theirs.completed_spans), len(sink.events), sink.events[0].data["flags"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"LLM_METERING_HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.strip() == "1 1 ['unattributed', 'unseen_usage']", done.stderr
