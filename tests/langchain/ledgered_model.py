"""A chat model that keeps a ledger of what it generated, and can be held in the middle of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import PrivateAttr

WAIT = 20.0
"""Seconds until a test gives up."""
INPUT = 100
PIECES = ("one ", "two ", "three ", "four ")


class LedgeredChat(BaseChatModel):
    """Answers with four words, a token each, and says so at the end as OpenAI does.

    The last piece with text is followed by one with the finish reason, and that by one with the usage.

    Attributes:
        hold_after: After how many pieces it waits, for ever or until it is released.
        reports: Whether the usage is reported.
    """

    hold_after: int | None = None
    reports: bool = True
    _ledger: list[int] = PrivateAttr(default_factory=list)
    _holding: threading.Event = PrivateAttr(default_factory=threading.Event)
    _released: threading.Event = PrivateAttr(default_factory=threading.Event)

    @property
    def _llm_type(self) -> str:
        return "ledgered"

    @property
    def ledger(self) -> list[tuple[int, int]]:
        """Input and output tokens of each request so far."""
        return [(INPUT, output) for output in self._ledger]

    @property
    def arrived(self) -> bool:
        """Whether a request is being held."""
        return self._holding.is_set()

    def release(self) -> None:
        """Let what is held go on."""
        self._released.set()

    async def holding(self) -> None:
        """Wait until a request is being held."""
        async with asyncio.timeout(WAIT):
            while not self._holding.is_set():
                await asyncio.sleep(0)

    def _usage(self, output: int) -> dict[str, int] | None:
        if not self.reports:
            return None
        return {"input_tokens": INPUT, "output_tokens": output, "total_tokens": INPUT + output}

    def _chunks(self) -> Iterator[ChatGenerationChunk | None]:
        """The chunks of an answer; `None` where it is held."""
        place = len(self._ledger)
        self._ledger.append(0)
        for number, piece in enumerate(PIECES):
            if number == self.hold_after:
                yield None
            self._ledger[place] += 1
            yield ChatGenerationChunk(message=AIMessageChunk(piece))
        finished = AIMessageChunk("", response_metadata={"finish_reason": "stop"})
        yield ChatGenerationChunk(message=finished)
        if self.reports:
            usage = self._usage(self._ledger[place])
            yield ChatGenerationChunk(message=AIMessageChunk("", usage_metadata=usage))

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in self._chunks():
            if chunk is None:
                self._holding.set()
                assert self._released.wait(WAIT)
            else:
                yield chunk

    async def _astream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._chunks():
            if chunk is None:
                self._holding.set()
                while not self._released.is_set():
                    await asyncio.sleep(0.001)
            else:
                yield chunk

    def _result(self) -> ChatResult:
        text = "".join(PIECES)
        message = AIMessage(text, usage_metadata=self._usage(len(PIECES)))
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        for _ in self._stream(messages):
            pass
        return self._result()

    async def _agenerate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        async for _ in self._astream(messages):
            pass
        return self._result()
