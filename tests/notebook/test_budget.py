"""`%%metered --budget`: money that the calls of a cell may spend."""

from __future__ import annotations

import pytest

from llm_metering.errors import BudgetExceededError, CallRefusedError, UnpricedCallError
from llm_metering.notebook.budget import Budget
from llm_metering.notebook.tally import CellTally
from tests.factories import make_event

from .conftest import USED, lines_of


@pytest.fixture
def chat(shell, model_server, monkeypatch):
    """A LangChain model in the shell, of the real server, which says how often it was asked."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    shell.run(
        "from langchain_openai import ChatOpenAI, OpenAIEmbeddings\n"
        f"asked = dict(base_url={model_server.openai_url!r}, api_key='x', max_retries=0,"
        " default_headers={'Connection': 'close'})\n"
        "llm = ChatOpenAI(model='tiny', max_tokens=4, stream_usage=True, **asked)"
    )
    return shell


@pytest.fixture
def answers(model_server):
    """How many answers the server has begun, by its own count."""
    return lambda: model_server.counters().prompt_tokens


def test_cost_is_shown_with_its_currency(shell, prices):
    """By model and in total; what has no price is counted beside, and is no 0."""
    prices.currencies = {"gpt-5": "USD", "mistral": "EUR"}
    record = "llm_metering.record(TokenUsage(input_tokens=100, output_tokens=20), model={!r});"

    shown = shell.usage(
        "%%metered acme\n" + "\n".join(record.format(each) for each in ("gpt-5", "mistral", "x"))
    )

    assert [line.split()[5:] for line in shown[2:5]] == [
        ["300", "USD"],
        ["300", "EUR"],
        ["no", "price"],
    ]
    assert shown[5].endswith("300 EUR + 300 USD + 1 without a price")
    assert shown[6] == "Without a price: 1, since no price for x."


def test_call_after_the_budget_is_not_made(chat, prices, answers):
    """The call that crosses it goes through, the next one does not reach the provider."""
    prices.currencies = {"tiny": "USD"}
    chat.run("llm.invoke('warm up')")

    captured, result = chat.try_to("%%metered acme --budget 0.5\nllm.invoke('a')\nllm.invoke('b')")

    error = result.error_in_exec
    assert isinstance(error, BudgetExceededError)
    assert error.currency == "USD"
    assert error.spent > error.budget
    shown = lines_of(captured)
    assert shown[2].split()[1] == "1"
    spent = f"{error.spent:,f}"
    assert shown[3] == f"Budget 0.5 USD: {spent} spent, {error.spent - error.budget:,f} over it."
    assert shown[4].startswith("Refused once: the budget of 0.5 USD is spent: the calls so far")


def test_refused_calls_reach_nobody(chat, prices, model_server):
    """By the provider's own count, none of the refused calls was asked for."""
    prices.currencies = {"tiny": "USD"}
    chat.run("%%metered acme --budget 100000\nllm.invoke('a')")
    before = model_server.counters()

    _, result = chat.try_to("%%metered acme --budget 100000\nfor _ in range(3): llm.invoke('a')")
    result.raise_error()
    between = model_server.counters()
    assert between != before

    chat.try_to("%%metered acme --budget 1 \nother = ChatOpenAI(model='x', **asked).invoke('a')")
    assert model_server.counters() == between


@pytest.mark.parametrize(
    "ways",
    [
        pytest.param("llm.invoke('b')", id="invoke"),
        pytest.param("await llm.ainvoke('b')", id="ainvoke"),
        pytest.param("list(llm.stream('b'))", id="stream"),
        pytest.param("llm.batch(['b', 'c'])", id="batch"),
        pytest.param(
            "from langchain_openai import OpenAI\nOpenAI(model='tiny', **asked).invoke('b')",
            id="completion model",
        ),
        pytest.param(
            "from llm_metering.langchain import metered_embeddings\n"
            "metered_embeddings(OpenAIEmbeddings(model='tiny', check_embedding_ctx_length=False,"
            " **asked)).embed_query('b')",
            id="embeddings",
        ),
    ],
)
def test_every_way_to_call_is_refused(ways, chat, prices):
    """However LangChain is asked."""
    prices.currencies = {"tiny": "USD"}

    captured, result = chat.try_to(f"%%metered acme --budget 0.5\nllm.invoke('a')\n{ways}")

    assert isinstance(result.error_in_exec, BudgetExceededError)
    assert lines_of(captured)[2].split()[1] == "1"


def test_llamaindex_is_refused_too(shell, prices):
    """LlamaIndex swallows what its handlers raise; the refusal comes out all the same."""
    shell.run(
        "from llama_index.core.llms import MockLLM\n"
        "from llama_index.core import MockEmbedding\n"
        "class Priced(MockLLM):\n"
        "    model: str = 'tiny'\n"
        "    model_name: str = 'tiny'\n"
    )

    captured, result = shell.try_to(
        f"%%metered acme --budget 0.5\n{USED}\nMockLLM(max_tokens=4).complete('Hello')"
    )

    assert isinstance(result.error_in_exec, CallRefusedError)
    assert lines_of(captured)[2].split()[:2] == ["gpt-5", "1"]


def test_model_without_a_price_cannot_be_held_to_a_budget(chat, prices):
    """It is refused before it is made, and the message names it; without a budget it is made."""
    captured, result = chat.try_to("%%metered acme --budget 0.5\nllm.invoke('a')")

    assert isinstance(result.error_in_exec, UnpricedCallError)
    assert result.error_in_exec.model == "tiny"
    assert lines_of(captured)[-1].startswith(
        "Refused once: there is a budget, and tiny cannot be held to it: no price for tiny"
    )
    assert chat.usage("%%metered acme\nllm.invoke('a')")[2].split()[1] == "1"


@pytest.mark.parametrize(
    ("budget", "currency"),
    [
        pytest.param("100000", "USD", id="of the price"),
        pytest.param("100000EUR", "EUR", id="named"),
    ],
)
def test_budget_is_of_one_currency(budget, currency, chat, prices):
    """Of the first call's, or the one that is named; a price in another one is no measure for it."""
    prices.currencies = {"tiny": "USD"}

    captured, result = chat.try_to(f"%%metered acme --budget {budget}\nllm.invoke('a')")

    assert f"Budget 100,000 {currency}" in "".join(lines_of(captured))
    if currency == "EUR":
        assert "its price is in USD, the budget in EUR" in str(result.error_in_exec)
    else:
        assert result.error_in_exec is None


def test_what_is_recorded_counts_and_is_never_refused(chat, prices):
    """It has been used already: it is recorded, over the budget too, and stops what comes after."""
    prices.currencies = {"tiny": "USD", "gpt-5": "USD"}

    captured, result = chat.try_to(
        f"%%metered acme --budget 500\n{USED}\n{USED}\n{USED}\nllm.invoke('a')"
    )

    assert isinstance(result.error_in_exec, BudgetExceededError)
    assert lines_of(captured)[2].split()[:2] == ["gpt-5", "3"]
    assert lines_of(captured)[3] == "Budget 500 USD: 900 spent, 400 over it."


def test_budget_is_of_one_run_of_a_cell(chat, prices):
    """Each run has its own; calls outside of it are bound by none."""
    prices.currencies = {"tiny": "USD"}

    for _ in range(2):
        assert chat.usage("%%metered acme --budget 0.5\nllm.invoke('a')")[2].split()[1] == "1"
    chat.run("llm_metering.install()\nwith llm_metering.subject('acme'): llm.invoke('a')")


def test_refused_calls_are_counted(chat, prices, default_meter):
    """`status` counts them, and they are no events."""
    prices.currencies = {"tiny": "USD"}

    chat.try_to("%%metered acme --budget 0.5\nllm.invoke('a')\nllm.invoke('b')")

    assert default_meter.usage("calls_total").total == 1
    statistics = default_meter.statistics()
    assert statistics["refused_calls"] == 1
    assert statistics["open_calls"] == 0
    assert statistics["failures"] == 0


def test_asking_looks_at_what_is_new_alone(prices):
    """A cell of many calls adds each of them once, not all of them again before each call."""
    prices.currencies = {"gpt-5": "USD"}
    looked_at = []

    class Tally(CellTally):
        def cost_of(self, event):
            looked_at.append(event.id)
            return super().cost_of(event)

    tally = Tally(prices, Budget("1000"))
    events = [make_event(model="gpt-5") for _ in range(4)]
    for event in events:
        tally.settled(event)
        refusal = tally.refusal("openai", "gpt-5")

    assert looked_at == [event.id for event in events]
    assert isinstance(refusal, BudgetExceededError)
    assert refusal.spent == 4 * 300
    assert len(tally.refusals) == 1
    assert tally.refusal("openai", "gpt-5").spent == 4 * 300


def test_an_answer_without_a_price_stays_in_the_way(prices):
    """What it cost is unknown at each later call too, however much was used in between."""
    prices.currencies = {"gpt-5": "USD"}
    tally = CellTally(prices, Budget("100000"))

    tally.settled(make_event(model="dated"))
    assert isinstance(tally.refusal("openai", "gpt-5"), UnpricedCallError)
    tally.settled(make_event(model="gpt-5"))
    assert isinstance(tally.refusal("openai", "gpt-5"), UnpricedCallError)
