"""The ways into LlamaIndex that end at a provider, each at once or in pieces, awaited or not.

An entry point is what an application calls. One call of it may be several of the provider's, as of
an agent that uses a tool, or of an index that asks about one piece of text after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from llama_index.core import Document, MockEmbedding, PromptTemplate, SummaryIndex, VectorStoreIndex
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.extractors import TitleExtractor
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from tests.llamaindex.asking import messages

__all__ = ["ENTRY_POINTS", "Answer", "Enter"]

Enter = Callable[[Any, str], Any]

CHUNKS: Final = ("Amber is yellow.", "Birch is white.", "Cedar is red.")


class Answer(BaseModel):
    """What a structured answer is. A field of it is called as the counts of a provider are."""

    word: str
    usage: str


def look_up(word: str) -> str:
    """Say what a word means."""
    return f"{word} is a word"


TOOL: Final = FunctionTool.from_defaults(look_up)


def _prompt() -> PromptTemplate:
    # A new one each time: a program that parses text puts its parser into the template.
    return PromptTemplate("{asked}")


def _chat() -> dict[str, Enter]:
    return {
        "sync": lambda llm, asked: llm.chat(messages(asked)),
        "async": lambda llm, asked: llm.achat(messages(asked)),
        "stream": lambda llm, asked: llm.stream_chat(messages(asked)),
        "async stream": lambda llm, asked: llm.astream_chat(messages(asked)),
    }


def _completions() -> dict[str, Enter]:
    return {
        "sync": lambda llm, asked: llm.complete(asked),
        "async": lambda llm, asked: llm.acomplete(asked),
        "stream": lambda llm, asked: llm.stream_complete(asked),
        "async stream": lambda llm, asked: llm.astream_complete(asked),
    }


def _predictions() -> dict[str, Enter]:
    return {
        "sync": lambda llm, asked: llm.predict(_prompt(), asked=asked),
        "async": lambda llm, asked: llm.apredict(_prompt(), asked=asked),
        "stream": lambda llm, asked: llm.stream(_prompt(), asked=asked),
        "async stream": lambda llm, asked: llm.astream(_prompt(), asked=asked),
    }


def _structured_predictions() -> dict[str, Enter]:
    return {
        "sync": lambda llm, asked: llm.structured_predict(Answer, _prompt(), asked=asked),
        "async": lambda llm, asked: llm.astructured_predict(Answer, _prompt(), asked=asked),
        "stream": lambda llm, asked: llm.stream_structured_predict(Answer, _prompt(), asked=asked),
        "async stream": lambda llm, asked: llm.astream_structured_predict(
            Answer, _prompt(), asked=asked
        ),
    }


def _structured_models() -> dict[str, Enter]:
    def entering(enter: Enter) -> Enter:
        return lambda llm, asked: enter(llm.as_structured_llm(Answer), asked)

    return {way: entering(enter) for way, enter in _chat().items()}


def _tool_calls() -> dict[str, Enter]:
    return {
        "sync": lambda llm, asked: llm.chat_with_tools([TOOL], asked),
        "async": lambda llm, asked: llm.achat_with_tools([TOOL], asked),
        "stream": lambda llm, asked: llm.stream_chat_with_tools([TOOL], asked),
        "async stream": lambda llm, asked: llm.astream_chat_with_tools([TOOL], asked),
    }


def _queries(engine: Callable[[Any, bool], Any]) -> dict[str, Enter]:
    return {
        "sync": lambda llm, asked: engine(llm, False).query(asked),
        "async": lambda llm, asked: engine(llm, False).aquery(asked),
        "stream": lambda llm, asked: engine(llm, True).query(asked).response_gen,
        "async stream": lambda llm, asked: engine(llm, True).aquery(asked),
    }


def _documents() -> list[Document]:
    return [Document(text=text) for text in CHUNKS]


def _of_an_index(mode: str) -> Callable[[Any, bool], Any]:
    def engine(llm: Any, streaming: bool) -> Any:
        index = SummaryIndex.from_documents(_documents())
        return index.as_query_engine(llm=llm, streaming=streaming, response_mode=mode)

    return engine


def _of_vectors(llm: Any, streaming: bool) -> Any:
    index = VectorStoreIndex.from_documents(_documents(), embed_model=MockEmbedding(embed_dim=3))
    return index.as_query_engine(llm=llm, streaming=streaming)


def _chats(engine: Callable[[Any], Any]) -> dict[str, Enter]:
    return {
        "sync": lambda llm, asked: engine(llm).chat(asked),
        "async": lambda llm, asked: engine(llm).achat(asked),
        "stream": lambda llm, asked: engine(llm).stream_chat(asked).response_gen,
        "async stream": lambda llm, asked: engine(llm).astream_chat(asked),
    }


def _simple_chat(llm: Any) -> Any:
    return SimpleChatEngine.from_defaults(llm=llm, memory=ChatMemoryBuffer(token_limit=9_000))


def _chat_with_context(mode: str) -> Callable[[Any], Any]:
    def engine(llm: Any) -> Any:
        embeds = MockEmbedding(embed_dim=3)
        index = VectorStoreIndex.from_documents(_documents(), embed_model=embeds)
        memory = ChatMemoryBuffer(token_limit=9_000, chat_history=messages("Before"))
        return index.as_chat_engine(mode, llm=llm, memory=memory)

    return engine


def _agents(agent: Callable[[Any, bool], Any]) -> dict[str, Enter]:
    def running(streaming: bool) -> Enter:
        async def enter(llm: Any, asked: str) -> Any:
            return await agent(llm, streaming).run(user_msg=asked)

        return enter

    # They run on an event loop, and stream if nobody tells them not to.
    return {"async": running(False), "async stream": running(True)}


def _function_agent(llm: Any, streaming: bool) -> Any:
    return FunctionAgent(llm=llm, tools=[TOOL], streaming=streaming)


def _react_agent(llm: Any, streaming: bool) -> Any:
    return ReActAgent(llm=llm, tools=[TOOL], streaming=streaming)


def _workflow(llm: Any, streaming: bool) -> Any:
    agent = FunctionAgent(
        name="first", description="Works.", llm=llm, tools=[TOOL], streaming=streaming
    )
    return AgentWorkflow(agents=[agent], root_agent="first")


def _pipeline(llm: Any, asked: str) -> IngestionPipeline:
    template = f"{asked} {{context_str}}"
    extractor = TitleExtractor(
        llm=llm, nodes=1, node_template=template, combine_template=template, show_progress=False
    )
    return IngestionPipeline(transformations=[extractor], disable_cache=True)


def _ingestion() -> dict[str, Enter]:
    return {
        "sync": lambda llm, asked: _pipeline(llm, asked).run(documents=_documents()),
        "async": lambda llm, asked: _pipeline(llm, asked).arun(documents=_documents()),
    }


ENTRY_POINTS: Final[Mapping[str, Mapping[str, Enter]]] = {
    "chat": _chat(),
    "complete": _completions(),
    "predict": _predictions(),
    "structured_predict": _structured_predictions(),
    "as_structured_llm": _structured_models(),
    "chat_with_tools": _tool_calls(),
    "query engine": _queries(_of_vectors),
    "refining query engine": _queries(_of_an_index("refine")),
    "summarizing query engine": _queries(_of_an_index("tree_summarize")),
    "chat engine": _chats(_simple_chat),
    "condensing chat engine": _chats(_chat_with_context("condense_plus_context")),
    "FunctionAgent": _agents(_function_agent),
    "ReActAgent": _agents(_react_agent),
    "AgentWorkflow": _agents(_workflow),
    "ingestion pipeline": _ingestion(),
}
"""By name and by way in: what asks a model of LlamaIndex something.

It returns the answer, an iterable of its pieces, or a coroutine of either.
"""
