"""A model as users write one: `CustomLLM` around an HTTP request."""

from __future__ import annotations

import json
from typing import Any

import httpx
from llama_index.core.llms import (
    CompletionResponse,
    CompletionResponseGen,
    CustomLLM,
    LLMMetadata,
)
from llama_index.core.llms.callbacks import llm_completion_callback
from pydantic import BaseModel

__all__ = ["HttpLLM"]


class HttpLLM(CustomLLM):
    """Asks a server that speaks OpenAI's chat completions, without an SDK.

    It gives what the server answered as `raw`, the usage in it. `CustomLLM` makes a chat out of a
    completion, and a coroutine out of a function.

    Attributes:
        url: The server's.
        model: Its name for the model.
        schema_of: What each answer shall be, as JSON.
    """

    url: str
    model: str
    schema_of: type[BaseModel] | None = None

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex wants to know of a model."""
        return LLMMetadata(context_window=100_000, model_name=self.model)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Ask at once."""
        body = self._body(prompt)
        answer = httpx.post(f"{self.url}/chat/completions", json=body, trust_env=False)
        raw = answer.raise_for_status().json()
        return CompletionResponse(text=raw["choices"][0]["message"]["content"], raw=raw)

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """Ask in pieces."""
        body = {**self._body(prompt), "stream": True, "stream_options": {"include_usage": True}}

        def pieces() -> CompletionResponseGen:
            text = ""
            with httpx.stream(
                "POST", f"{self.url}/chat/completions", json=body, trust_env=False
            ) as answer:
                answer.raise_for_status()
                for line in answer.iter_lines():
                    content = line.removeprefix("data: ")
                    if not content.startswith("{"):
                        continue
                    raw = json.loads(content)
                    delta = "".join(
                        choice["delta"].get("content") or "" for choice in raw["choices"]
                    )
                    text += delta
                    yield CompletionResponse(text=text, delta=delta, raw=raw)

        return pieces()

    def _body(self, prompt: str) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
        }
        if self.schema_of is None:
            return body
        schema = {"name": "answer", "schema": self.schema_of.model_json_schema()}
        return {**body, "response_format": {"type": "json_schema", "json_schema": schema}}
