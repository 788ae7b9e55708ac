"""`HearsSurroundings`: the hooks of what calls are begun in; when that is over, they should be, too.

Read in langchain-core 1.7.2, `langchain_core/callbacks/base.py`.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler

from ..calls import owner_is_over
from .run_ids import key_of

__all__ = ["HearsSurroundings"]


class HearsSurroundings(BaseCallbackHandler):
    """Tells the calls in flight when a chain, a tool or a retriever around them is over."""

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """A chain, a graph or one of its nodes is over, and so should be the calls it made."""
        owner_is_over(key_of(run_id))

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """A chain failed, or was left or cancelled."""
        owner_is_over(key_of(run_id))

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """A tool is over."""
        owner_is_over(key_of(run_id))

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """A tool failed."""
        owner_is_over(key_of(run_id))

    def on_retriever_end(self, documents: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """A retriever is over."""
        owner_is_over(key_of(run_id))

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """A retriever failed."""
        owner_is_over(key_of(run_id))
