"""What tests of the taps get: LangChain's clients, and a server that answers them."""

from __future__ import annotations

import gc
import warnings

import pytest

from llm_metering.langchain import MeteringHandler
from tests.extract.recorded import Interaction
from tests.langchain.recorded_clients import model_for
from tests.langchain.taps.answers import ANSWERS, CLIENTS
from tests.replaying import Replays, stored


@pytest.fixture(scope="module")
def replays(tmp_path_factory):
    with Replays(stored(tmp_path_factory.mktemp("answers"), ANSWERS)) as replays:
        yield replays


@pytest.fixture
def model(replays):
    """Make LangChain's client of a provider, which gets the answer of a name."""

    def model(name, **overrides):
        provider, api = CLIENTS[name.split("-")[0]]
        interaction = Interaction(
            name=name,
            provider=provider,
            api=api,
            model=None,
            is_stream=True,
            request={"uri": ""},
            body={},
            expected=None,
            usage_as_recorded=None,
        )
        made = model_for(interaction, replays.url(f"own/{name}"))
        return made.model_copy(update=overrides) if overrides else made

    return model


@pytest.fixture(autouse=True)
def quiet():
    """Clients that fail over an answer leave its connection open; it is closed here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
        gc.collect()


@pytest.fixture
def metered(meter, events_of):
    """The events of what was called, with the configuration for the calls."""

    class Metered:
        def __init__(self):
            self.config = {"callbacks": [MeteringHandler("customer-42", meter=meter)]}

        @property
        def all(self):
            return [event.data for event in events_of(meter)]

        @property
        def one(self):
            (data,) = self.all
            return data

    return Metered()
