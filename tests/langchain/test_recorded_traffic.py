"""Recorded answers of real providers, played back through LangChain's real clients.

What a provider reported is what is billed, whatever LangChain makes of it: of the 231 recorded
answers that report a usage and have a client, LangChain's own `usage_metadata` is exact for 195
(langchain-core 1.7.2 and the integrations that fit it).
"""

from __future__ import annotations

import asyncio
import gc
import warnings
from pathlib import Path
from uuid import uuid4

import pytest

from llm_metering import Meter
from llm_metering.langchain import MeteringHandler
from llm_metering.sinks.memory import MemorySink
from tests.extract.recorded import ABSENT, ANSWERS, FOLDER, NUMBERS, params
from tests.langchain.recorded_clients import CLIENTS, model_for
from tests.replaying import Replays

# As in the test of the extractors: what was recorded knows no `num_cached_tokens`.
CORRECTIONS = {"sequences/mistral-openai-chat-unary-2-1": {"cache_read_tokens": 32}}

NOT_EXACT = {
    "google-vertex/gemini-generate-content-stream-reasoning-1": (
        "It was recorded without `alt=sse` and is one JSON array. LangChain's client asks for events, "
        "fails over the first line, and closes the connection before the usage has come."
    ),
}
"""By name, why the counts cannot be what the provider reported."""

NOT_AWAITED = {
    "bedrock.invoke_titan": "langchain-aws awaits completion models only as streams.",
    "google-vertex": "google-genai awaits with aiohttp, which has no tap, and fails over the answer.",
}
"""By provider or API, what LangChain's client cannot do, or nobody can see of it."""

GAPS = {
    "anthropic/anthropic-messages-stream-cacheread-1": "message_delta without the input",
    "anthropic/anthropic-messages-stream-iterations-2": "fails over `usage.iterations`",
    "bedrock/bedrock-invoke-unary-plain-1": "fails over Nova's answer",
    "cohere/cohere-v2-chat-stream-cacheread-1": "`message-end` is not read",
    "cohere/cohere-v2-chat-unary-cacheread-1": "`cached_tokens` are not read",
    "google-vertex/gemini-generate-content-unary-reasoning-2": "fails over Vertex's spelling",
    "mistral/openai-chat-unary-cacheread-2": "`num_cached_tokens` are not read",
}
"""By name, what LangChain loses or fails over, and a tap has seen."""


def has_client(interaction):
    return (interaction.provider, interaction.api) in CLIENTS or interaction.api in CLIENTS


SINGLE = [each for each in ANSWERS if not each.name.startswith("sequences/")]
WITH_CLIENT = [each for each in ANSWERS if has_client(each)]
REPORTED = [each for each in WITH_CLIENT if each.expected]
SPOT_CHECKS = list(
    {
        (each.provider, each.api, each.is_stream): each
        for each in REPORTED
        if each.api not in NOT_AWAITED and each.provider not in NOT_AWAITED
    }.values()
)
STREAMS = [each for each in REPORTED if each.is_stream and each.name not in NOT_EXACT]


class Replayed:
    """Calls that are answered with what was recorded, and the events of them."""

    def __init__(self, replays: Replays, meter: Meter, sink: MemorySink) -> None:
        self._replays = replays
        self._meter = meter
        self._sink = sink
        self._handler = MeteringHandler("customer-42", meter=meter)

    def model(self, interaction):
        return model_for(interaction, self._replays.url(interaction.name))

    def config(self):
        return {"callbacks": [self._handler], "run_id": uuid4()}

    def event(self, run_id):
        """The data of the one event of a run."""
        assert self._meter.flush()
        (event,) = (each for each in self._sink.events if each.data["run_id"] == str(run_id))
        return event.data

    def call(self, interaction):
        config = self.config()
        model = self.model(interaction)
        try:
            if interaction.is_stream:
                list(model.stream("Hello", config))
            else:
                model.invoke("Hello", config)
        except Exception:
            assert self.event(config["run_id"])["status"] == "failed"
        return self.event(config["run_id"])

    async def acall(self, interaction, model=None):
        config = self.config()
        model = model or self.model(interaction)
        try:
            if interaction.is_stream:
                async for _ in model.astream("Hello", config):
                    await asyncio.sleep(0)
            else:
                await model.ainvoke("Hello", config)
        except Exception:
            assert self.event(config["run_id"])["status"] == "failed"
        return self.event(config["run_id"])


@pytest.fixture(scope="module")
def replays():
    if not FOLDER:
        pytest.skip(ABSENT)
    with Replays(Path(FOLDER)) as replays:
        yield replays


@pytest.fixture(scope="module", params=[True], ids=["taps"])
def replayed(request, replays, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    sink = MemorySink()
    with Meter(home=home, sinks=[sink], ledger=False, taps=request.param) as meter:
        yield Replayed(replays, meter, sink)


@pytest.fixture(autouse=True)
def quiet():
    """The clients warn of models they do not know, and leave connections open when they fail."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module", autouse=True)
def what_is_left_open():
    """What the clients have left open is closed here, and not in the time of another test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


def numbers_of(data):
    return {key: data.get(field, 0) for key, field in NUMBERS.items()}


def expected_of(interaction):
    expected = {**interaction.expected, **CORRECTIONS.get(interaction.name, {})}
    return {key: expected[key] for key in NUMBERS}


@pytest.mark.skipif(not FOLDER, reason=ABSENT)
def test_how_many_are_exact():
    """All but one of the 231 recorded answers that have a client are exact; that one has a reason."""
    singles = {each.name for each in SINGLE if has_client(each) and each.expected}

    assert len(singles) == 231
    assert len(singles - NOT_EXACT.keys()) == 230
    assert NOT_EXACT.keys() <= singles


@pytest.mark.parametrize("interaction", params(REPORTED))
def test_exact(replayed, interaction):
    """What is metered is what the provider reported, or why it is not is known."""
    data = replayed.call(interaction)

    if interaction.name in NOT_EXACT:
        assert data["provenance"] != "reported"
    else:
        assert numbers_of(data) == expected_of(interaction)
        assert data["provenance"] == "reported"
        assert data.get("service_tier") == interaction.tier
    assert "usage_differs" not in data.get("flags", ())
    assert "tap_failed" not in data.get("flags", ())


@pytest.mark.parametrize(
    "interaction", params(each for each in WITH_CLIENT if each.expected is None)
)
def test_nothing_reported(replayed, interaction):
    """An answer that reports nothing is estimated, and says so."""
    assert replayed.call(interaction)["provenance"] == "estimated"


@pytest.mark.parametrize("interaction", params(SPOT_CHECKS))
def test_async(replayed, interaction):
    """Of each provider and API one, awaited: the same counts."""
    data = asyncio.run(replayed.acall(interaction))

    assert numbers_of(data) == expected_of(interaction)


@pytest.mark.parametrize("replayed", [False], ids=["no taps"], indirect=True)
@pytest.mark.parametrize("interaction", params(each for each in REPORTED if each.name in GAPS))
def test_without_taps(replayed, interaction):
    """It is the tap that repairs these: with the setting off, LangChain's own count is what there is."""
    data = replayed.call(interaction)

    assert numbers_of(data) != expected_of(interaction)


@pytest.mark.skipif(not FOLDER, reason=ABSENT)
def test_all_streams_at_once(replayed):
    """Streams consumed in turns on one event loop: none is billed for what another one used."""
    models = [replayed.model(each) for each in STREAMS]

    async def main():
        calls = map(replayed.acall, STREAMS, models)
        return await asyncio.gather(*calls)

    events = asyncio.run(main())

    assert [numbers_of(data) for data in events] == [expected_of(each) for each in STREAMS]


@pytest.mark.skipif(not FOLDER, reason=ABSENT)
def test_two_streams_in_one_thread(replayed):
    """Streams that one thread consumes in turns are told apart, each to its own provider's end."""
    pairs = [each for each in STREAMS if each.api in ("anthropic.messages", "cohere.v2_chat")]
    open_ones = [(each, replayed.config()) for each in pairs]
    streams = [replayed.model(each).stream("Hello", config) for each, config in open_ones]
    while streams:
        streams = [each for each in streams if _is_left(each)]

    events = [replayed.event(config["run_id"]) for _, config in open_ones]
    assert [numbers_of(data) for data in events] == [expected_of(each) for each in pairs]


def _is_left(stream):
    try:
        return next(stream, None) is not None
    except AttributeError:  # langchain-anthropic's, over `usage.iterations`
        return False
