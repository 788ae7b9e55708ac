"""Structured answers that an integration asks its SDK for, of which LlamaIndex tells nothing."""

from __future__ import annotations

import httpx
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel

import llm_metering
from llm_metering import subject
from tests.books import billed, owed, prompt
from tests.llamaindex.custom import HttpLLM


class Invoice(BaseModel):
    """What is asked for."""


class Integration(HttpLLM):
    """Asks directly for a model that knows structured answers, as Anthropic's does, else by `complete`."""

    def structured_predict(self, kind, prompt_, llm_kwargs=None, **arguments):
        """One call, either way."""
        asked = prompt_.format(**arguments)
        if self.model == "old":
            self.complete(asked)
        else:
            body = self._body(asked)
            httpx.post(f"{self.url}/chat/completions", json=body, trust_env=False)
        return kind()


def test_which_way_an_integration_goes_depends_on_its_model(provider, default_meter, events_of):
    """What is read on its way is read from the start, also right behind a call that went the other way."""
    llm_metering.install()
    new, old = (Integration(url=provider.openai_url, model=model) for model in ("new", "old"))

    with subject("acme"):
        for llm in (new, old, new, old, new):
            llm.structured_predict(Invoice, PromptTemplate("{who}"), who=prompt("acme"))

    assert billed(events_of(default_meter)) == owed(provider)
    assert len(events_of(default_meter)) == 5
