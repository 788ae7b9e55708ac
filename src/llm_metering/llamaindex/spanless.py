"""`Spanless`: a span handler that is told of spans and keeps none, as LlamaIndex's own do."""

from __future__ import annotations

from typing import Any

from llama_index_instrumentation.span import SimpleSpan
from llama_index_instrumentation.span_handlers import BaseSpanHandler

__all__ = ["Spanless"]


class Spanless(BaseSpanHandler[SimpleSpan]):
    """What LlamaIndex asks of a handler that keeps spans is answered with none."""

    @classmethod
    def class_name(cls) -> str:
        """The name that handlers of ours are known by."""
        return "MeteringSpanHandler"

    def new_span(self, *args: Any, **kwargs: Any) -> SimpleSpan | None:
        """Nothing is kept here."""
        return None

    def prepare_to_exit_span(self, *args: Any, **kwargs: Any) -> SimpleSpan | None:
        """Nothing is kept here."""
        return None

    def prepare_to_drop_span(self, *args: Any, **kwargs: Any) -> SimpleSpan | None:
        """Nothing is kept here."""
        return None
