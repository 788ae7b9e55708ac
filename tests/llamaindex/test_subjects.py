"""Who pays in LlamaIndex: frozen where a call, or the stream it is made in, was begun."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading

import pytest
from llama_index.core import Document, SummaryIndex, get_response_synthesizer
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.callbacks import CallbackManager
from llama_index.core.instrumentation.dispatcher import instrument_tags
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import SubQuestionQueryEngine
from llama_index.core.question_gen.types import BaseQuestionGenerator, SubQuestion
from llama_index.core.tools import QueryEngineTool
from llama_index.core.workflow import StartEvent, StopEvent, Workflow, step
from llama_index_instrumentation import get_dispatcher

import llm_metering
from llm_metering import subject
from llm_metering.errors import InvalidArgumentError
from llm_metering.llamaindex import MeteringHandler, metered_stream
from tests.books import billed, owed, prompt
from tests.llamaindex.asking import messages
from tests.llamaindex.clients import CLIENTS

STREAMING = ["openai", "responses", "ollama", "custom"]


def streaming(name, provider):
    return CLIENTS[name](provider, **({"additional_kwargs": ASKED} if name == "openai" else {}))


@pytest.fixture
def installed(default_meter):
    """Every call is metered."""
    llm_metering.install()
    return default_meter


ASKED = {"stream_options": {"include_usage": True}}


def engine_of(llm, **options):
    index = SummaryIndex.from_documents([Document(text="Berlin.")])
    return index.as_query_engine(llm=llm, **options)


@pytest.mark.parametrize("name", STREAMING)
def test_a_stream_is_paid_by_who_began_it(provider, installed, events_of, name):
    """The tags of its end are those of whoever reads it, perhaps another customer."""
    llm = streaming(name, provider)
    with subject("acme"):
        stream = llm.stream_chat(messages(prompt("acme")))

    with subject("beta"), instrument_tags({"subject": "beta"}):
        list(stream)

    assert billed(events_of(installed)) == owed(provider)


@pytest.mark.parametrize("name", STREAMING)
def test_so_is_an_async_stream(provider, installed, events_of, name):
    """`CustomLLM.astream_chat` asks the provider at its first step only, in the reader's context."""
    llm = streaming(name, provider)

    async def begin():
        with subject("acme"):
            return await llm.astream_chat(messages(prompt("acme")))

    async def read():
        stream = await asyncio.create_task(begin())
        with subject("beta"), instrument_tags({"subject": "beta"}):
            return [piece async for piece in stream]

    asyncio.run(read())

    assert billed(events_of(installed)) == owed(provider)


def read_here(stream):
    with subject("beta"):
        list(stream)


def read_in_thread(stream):
    thread = threading.Thread(target=read_here, args=(stream,))
    thread.start()
    thread.join()


def read_in_another_context(stream):
    contextvars.Context().run(list, stream)


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(read_here, id="another subject"),
        pytest.param(read_in_thread, id="another thread"),
        pytest.param(read_in_another_context, id="another context"),
    ],
)
@pytest.mark.parametrize("way", ["scope", "tags", "handler"])
def test_a_query_that_begins_as_it_is_read_is_paid_by_who_asked(
    provider, installed, events_of, read, way
):
    """`query(streaming=True)` returns before any model was asked; the reader may be anybody."""
    engine = engine_of(CLIENTS["openai"](provider, additional_kwargs=ASKED), streaming=True)
    if way == "scope":
        with subject("acme"):
            response = engine.query(prompt("acme"))
    elif way == "tags":
        with instrument_tags({"llm_metering_subject": "acme"}):
            response = engine.query(prompt("acme"))
    else:
        engine.callback_manager = CallbackManager([MeteringHandler("acme")])
        response = engine.query(prompt("acme"))

    read(response.response_gen)

    assert billed(events_of(installed)) == owed(provider)


def test_an_async_query_likewise(provider, installed, events_of):
    """Of `aquery` a task may read that was made elsewhere."""
    engine = engine_of(CLIENTS["openai"](provider, additional_kwargs=ASKED), streaming=True)

    async def main():
        with subject("acme"):
            response = await engine.aquery(prompt("acme"))
        with subject("beta"):
            return [piece async for piece in response.async_response_gen()]

    asyncio.run(main())

    assert billed(events_of(installed)) == owed(provider)


# Before, a query engine asked its model at once.
@pytest.mark.needs("core_0_14")
def test_a_query_that_nobody_asked_for_is_paid_by_who_reads_it(provider, installed, events_of):
    """Where nobody was named as it was made, the reader is better than nobody."""
    engine = engine_of(CLIENTS["openai"](provider, additional_kwargs=ASKED), streaming=True)
    response = engine.query(prompt("acme"))

    with subject("acme"):
        list(response.response_gen)

    assert billed(events_of(installed)) == owed(provider)


def test_a_stream_of_structured_answers_likewise(provider, installed, events_of):
    """`stream` and its like are generator functions: their span is over before they begin."""
    llm = CLIENTS["openai"](provider, additional_kwargs=ASKED)
    with subject("acme"):
        stream = llm.stream(PromptTemplate("{who}"), who=prompt("acme"))
        second = iter(llm.stream(PromptTemplate("{who}"), who=prompt("acme")))

    with subject("beta"):
        list(stream)
        list(second)

    assert billed(events_of(installed)) == owed(provider)


def test_a_scope_inside_of_the_generator_holds(provider, installed, events_of):
    """What a tool in a stream opens for a call of its own is nearer than who began the stream."""
    llm = CLIENTS["openai"](provider)

    class Inner(type(CLIENTS["custom"](provider))):
        def stream_complete(self, prompt_, formatted=False, **kwargs):
            with subject("inner"):
                llm.chat(messages(prompt("inner")))
            yield from ()

    with subject("acme"):
        stream = Inner(url="", model="x").stream_complete(prompt("acme"))
        list(stream)

    assert {event.subject for event in events_of(installed)} >= {"inner"}


@pytest.mark.parametrize("key", ["subject", "llm_metering_subject"])
def test_tags_name_who_pays(provider, installed, events_of, key):
    """`instrument_tags` is LlamaIndex's run metadata."""
    with instrument_tags({key: "acme", "other": 1}):
        CLIENTS["openai"](provider).chat(messages(prompt("acme")))

    assert billed(events_of(installed)) == owed(provider)


def test_tags_of_the_users_own_take_no_scope_away(provider, installed, events_of):
    """`instrument_tags` replaces all tags; a scope of ours is none of them."""
    with subject("acme"), instrument_tags({"mine": 1}):
        CLIENTS["openai"](provider).chat(messages(prompt("acme")))

    assert billed(events_of(installed)) == owed(provider)


def test_only_tags_that_are_asked_for_leave_the_process(provider, home, sink, events_of):
    """A workflow's tags hold up to 200 characters of what the user has said."""
    meter = llm_metering.configure(
        home=home, sinks=[sink], metadata_dimensions=["llamaindex.run_id"]
    )
    llm_metering.install()
    try:
        with instrument_tags({"llamaindex.run_id": "r1", "summary": "what the user said"}):
            CLIENTS["openai"](provider).chat(messages("?"))
        (event,) = events_of(meter)
        assert event.data["llamaindex.run_id"] == "r1"
        assert "what the user said" not in str(event)
    finally:
        llm_metering.uninstall()
        llm_metering.close()


def test_a_pinned_subject_stands_above_tags(provider, installed, events_of):
    """What a request carries cannot override it."""
    with subject("acme", pinned=True), instrument_tags({"subject": "mallory"}):
        CLIENTS["openai"](provider).chat(messages(prompt("acme")))

    assert billed(events_of(installed)) == owed(provider)


def test_metered_stream_holds_while_the_generator_runs(provider, installed, events_of):
    """`with subject(…)` in a generator would hold for its reader as well."""
    llm = CLIENTS["openai"](provider)

    def answers():
        for _ in range(2):
            yield llm.chat(messages(prompt("acme")))

    for _ in metered_stream(answers(), "acme"):
        with subject("beta"):
            llm.chat(messages(prompt("beta")))

    assert billed(events_of(installed)) == owed(provider)


def test_metered_stream_of_an_async_generator(provider, installed, events_of):
    """The same, for `async for`."""

    async def answers():
        llm = CLIENTS["openai"](provider)
        for _ in range(2):
            yield await llm.achat(messages(prompt("acme")))

    async def main():
        return [each async for each in metered_stream(answers(), "acme")]

    assert len(asyncio.run(main())) == 2
    assert billed(events_of(installed)) == owed(provider)


@pytest.mark.needs("core_0_14")
@pytest.mark.parametrize("made_by", [None, "beta"], ids=["nobody", "another"])
def test_metered_stream_of_llamaindexs_own(provider, installed, events_of, made_by):
    """Who made such a generator is remembered; what is said of it later is the nearer word."""
    engine = engine_of(CLIENTS["openai"](provider, additional_kwargs=ASKED), streaming=True)
    with subject(made_by) if made_by else contextlib.nullcontext():
        stream = engine.query(prompt("acme")).response_gen

    list(metered_stream(stream, "acme"))

    assert billed(events_of(installed)) == owed(provider)


def test_metered_stream_takes_generators_only():
    """A stream of an SDK's own client is for another function, which the error names."""
    with pytest.raises(InvalidArgumentError, match=r"llm_metering\.metered_stream"):
        metered_stream([1, 2], "acme")


def test_agents_of_two_customers_at_once(provider, installed, events_of):
    """Agents stream by default, in tasks and workflows of their own."""

    def lookup(city: str) -> str:
        """Look a city up."""
        return f"{city} is large."

    async def run(name, kind):
        llm = CLIENTS["openai"](provider, "tools", additional_kwargs=ASKED)
        agent = kind(tools=[lookup], llm=llm, system_prompt=prompt(name))
        if kind is FunctionAgent:
            agent = AgentWorkflow(agents=[agent])
        with subject(name):
            handler = agent.run(user_msg=prompt(name))
        await handler  # outside of the scope

    async def main():
        await asyncio.gather(
            run("acme", FunctionAgent), run("beta", FunctionAgent), run("gamma", ReActAgent)
        )

    asyncio.run(main())

    assert billed(events_of(installed)) == owed(provider)
    assert {event.subject for event in events_of(installed)} == {"acme", "beta", "gamma"}


class Asking(BaseQuestionGenerator):
    """Makes two questions of one, without a model."""

    def generate(self, tools, query):
        return [SubQuestion(sub_question=query.query_str, tool_name=tool.name) for tool in tools]

    async def agenerate(self, tools, query):
        return self.generate(tools, query)

    def _get_prompts(self):
        return {}

    def _get_prompt_modules(self):
        return {}

    def _update_prompts(self, prompts_dict):
        pass


@pytest.mark.parametrize("way", ["sync", "at once", "async"])
def test_the_questions_of_a_question_are_paid_by_who_asked_it(provider, installed, events_of, way):
    """A sub-question engine asks an engine for each part, at once in tasks, and then for the whole."""

    async def main():
        # Of a loop of its own, as the engine is in a program.
        with subject("acme"):
            await engine().aquery(prompt("acme"))

    def engine():
        llm = CLIENTS["openai"](provider)
        tools = [
            QueryEngineTool.from_defaults(engine_of(llm), name=name, description=name)
            for name in ("north", "south")
        ]
        return SubQuestionQueryEngine(
            question_gen=Asking(),
            response_synthesizer=get_response_synthesizer(llm=llm),
            query_engine_tools=tools,
            verbose=False,
            use_async=way != "sync",
        )

    if way == "async":
        asyncio.run(main())
    else:
        with subject("acme"):
            engine().query(prompt("acme"))

    assert billed(events_of(installed)) == owed(provider)
    assert len(events_of(installed)) == 3


def test_a_workflow_is_paid_by_who_ran_it(provider, installed, events_of):
    """Steps run in tasks of the workflow's own; a sync one in a thread."""
    llm = CLIENTS["openai"](provider)

    class Asks(Workflow):
        @step
        async def ask(self, event: StartEvent) -> StopEvent:
            await CLIENTS["openai"](provider).achat(messages(event.who))
            return StopEvent(result=llm.chat(messages(event.who)).message.content)

    async def main():
        with subject("acme"):
            first = Asks().run(who=prompt("acme"))
        with subject("beta"):
            second = Asks().run(who=prompt("beta"))
        await asyncio.gather(first, second)

    asyncio.run(main())

    assert billed(events_of(installed)) == owed(provider)


def test_a_scope_travels_with_the_propagation_context(provider, installed, events_of):
    """Runtimes of workflows carry to another process what span handlers hand out, and nothing else."""
    CLIENTS["openai"](provider).chat(messages(prompt("nobody")))
    dispatcher = get_dispatcher()
    with subject("acme", pinned=True, feature="search"):
        context = dispatcher.capture_propagation_context()

    def there():
        dispatcher.restore_propagation_context(context)
        with instrument_tags({"subject": "mallory"}):
            CLIENTS["openai"](provider).chat(messages(prompt("acme")))

    contextvars.Context().run(there)

    event = events_of(installed)[-1]
    assert (event.subject, event.data["feature"]) == ("acme", "search")
    assert llm_metering.subjects.current_scope() is None


@pytest.mark.parametrize(
    "context",
    [
        pytest.param({"llm_metering": "acme"}, id="text"),
        pytest.param({"llm_metering": {"subject": ""}}, id="empty"),
        pytest.param(
            {"llm_metering": {"subject": "a", "dimensions": {"model": 1}}}, id="dimension"
        ),
        pytest.param({}, id="nothing"),
    ],
)
def test_a_context_that_holds_no_subject_changes_nothing(installed, context):
    """It may come from another process, of another version."""

    def there():
        with subject("acme"):
            get_dispatcher().restore_propagation_context(context)
            return llm_metering.subjects.current_scope().subject

    assert contextvars.copy_context().run(there) == "acme"
