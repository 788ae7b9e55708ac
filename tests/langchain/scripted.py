"""A chat model that says what a test tells it to, for what no server can be made to send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

__all__ = ["Scripted", "chunk", "usage"]

Step = ChatGenerationChunk | BaseException


def usage(input_tokens: Any, output_tokens: Any, **more: Any) -> dict[str, Any]:
    """A usage in LangChain's shape."""
    counts = {"input_tokens": input_tokens, "output_tokens": output_tokens}
    try:
        total = input_tokens + output_tokens
    except TypeError:
        total = 0
    return {**counts, "total_tokens": total, **more}


def chunk(text: Any = "", *, used: Any = None, **metadata: Any) -> ChatGenerationChunk:
    """A chunk of a stream; `metadata` is what its message says of the response."""
    message = AIMessageChunk(content=text, response_metadata=metadata)
    # Set, not given: what is no usage must get through.
    message.usage_metadata = used
    return ChatGenerationChunk(message=message)


class Scripted(BaseChatModel):
    """Answers with a message, or streams the chunks it is given; an exception is raised.

    Attributes:
        script: Makes the chunks, anew for each call.
        answer: Makes what is answered where nothing is streamed.
        tells: Whether it tells the run manager of its chunks itself, as most integrations do.
        reached: Set when a stream waits, after its last chunk, for ever.
        waits: Whether an async stream waits then.
    """

    script: Callable[[], Sequence[Step]] = list
    answer: Callable[[], ChatResult | AIMessage] | None = None
    tells: bool = False
    waits: bool = False
    reached: Any = None

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": "tiny", "ls_model_type": "chat"}

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        assert self.answer is not None
        answer = self.answer()
        if isinstance(answer, ChatResult):
            return answer
        return ChatResult(generations=[ChatGeneration(message=answer)])

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        for step in self.script():
            if isinstance(step, BaseException):
                raise step
            if self.tells and run_manager is not None:
                run_manager.on_llm_new_token(step.text, chunk=step)
            yield step

    async def _astream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for step in self.script():
            if isinstance(step, BaseException):
                raise step
            if self.tells and run_manager is not None:
                await run_manager.on_llm_new_token(step.text, chunk=step)
            yield step
        if self.waits:
            self.reached.set()
            await asyncio.Event().wait()
