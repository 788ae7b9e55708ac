"""`HearsStarts`: the hooks that tell of a call before it is made, and may refuse it.

Read in langchain-core 1.7.2, `langchain_core/callbacks/base.py` and `callbacks/manager.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ..errors import CallRefusedError
from .gating import Begun, admit, admit_async, is_awaited
from .surroundings import HearsSurroundings

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

__all__ = ["HearsStarts"]


class HearsStarts(HearsSurroundings):
    """Hears of the starts of calls; what is done about one the handler says."""

    @property
    def _is_enforcing(self) -> bool:
        """Whether calls are held to balances."""
        raise NotImplementedError

    def _note_failure(self, where: str, error: Exception) -> None:
        raise NotImplementedError

    def _start(
        self,
        operation: str,
        request: object,
        messages: Sequence[Any] | None,
        run_id: UUID,
        kwargs: dict[str, Any],
        flags: tuple[str, ...] = (),
        model: object = None,
    ) -> Begun | CallRefusedError | None:
        """Tell of the start; an error that is returned is to be raised, and then nothing was told."""
        raise NotImplementedError

    # Properties, since whoever awaits a coroutine function is given one: see `gating`.
    @property
    def on_chat_model_start(self) -> Callable[..., Any]:
        """Hears that a chat model is called.

        Raises:
            CallRefusedError: If nobody pays, and the settings refuse that, a budget is spent, or a
                balance does not cover it.
        """
        awaits = self._is_enforcing and is_awaited()
        return self._chat_starts_async if awaits else self._chat_starts

    @property
    def on_llm_start(self) -> Callable[..., Any]:
        """Hears that a completion model is called.

        Raises:
            CallRefusedError: As `on_chat_model_start`.
        """
        awaits = self._is_enforcing and is_awaited()
        return self._completion_starts_async if awaits else self._completion_starts

    def _chat_starts(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        **kwargs: Any,
    ) -> None:
        self._let_pass(self._chat_begun(serialized, messages, run_id, kwargs))

    async def _chat_starts_async(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        **kwargs: Any,
    ) -> None:
        await self._let_pass_async(self._chat_begun(serialized, messages, run_id, kwargs))

    def _completion_starts(
        self, serialized: dict[str, Any], prompts: list[str], *, run_id: UUID, **kwargs: Any
    ) -> None:
        self._let_pass(self._completion_begun(serialized, prompts, run_id, kwargs))

    async def _completion_starts_async(
        self, serialized: dict[str, Any], prompts: list[str], *, run_id: UUID, **kwargs: Any
    ) -> None:
        await self._let_pass_async(self._completion_begun(serialized, prompts, run_id, kwargs))

    def _chat_begun(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        run_id: UUID,
        kwargs: dict[str, Any],
    ) -> Begun | CallRefusedError | None:
        # Each handler of an async run gets an outer list of its own; the inner one is shared.
        asked = messages[0] if messages else []
        # A copy of the list: an agent goes on adding to its own while the model answers.
        return self._start("chat", asked, [*asked], run_id, kwargs, model=serialized)

    def _completion_begun(
        self, serialized: dict[str, Any], prompts: list[str], run_id: UUID, kwargs: dict[str, Any]
    ) -> Begun | CallRefusedError | None:
        return self._start("text_completion", prompts, prompts, run_id, kwargs, model=serialized)

    def _let_pass(self, begun: Begun | CallRefusedError | None) -> None:
        if isinstance(begun, Begun):
            try:
                begun = admit(begun)
            except Exception as error:
                self._note_failure("on_llm_start", error)
                return
        if begun is not None:
            raise begun

    async def _let_pass_async(self, begun: Begun | CallRefusedError | None) -> None:
        if isinstance(begun, Begun):
            try:
                begun = await admit_async(begun)
            except Exception as error:
                self._note_failure("on_llm_start", error)
                return
        if begun is not None:
            raise begun
