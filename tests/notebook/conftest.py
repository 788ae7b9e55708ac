"""What tests of the notebook get: an IPython with the extension, and a price list."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

import pytest
from IPython.core.async_helpers import get_asyncio_loop
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

from llm_metering import Meter
from llm_metering.prices import ModelPrices, PriceCard, Unpriced


@dataclass
class Prices:
    """What each model costs in a unit of its currency: one for a token of input, ten for one of output."""

    currencies: dict[str, str] = field(default_factory=dict)
    name: str = "the test's"
    version: str = "1"

    def find(self, provider, model, *, time, service_tier):
        if model not in self.currencies:
            return Unpriced("unknown_model", f"no price for {model}")
        card = PriceCard(
            provider=provider or "",
            model=model,
            rates={"input": Decimal(1), "output": Decimal(10), "cache_read": Decimal("0.1")},
            currency=self.currencies[model],
            source="the test",
        )
        return ModelPrices(cards=(card,), is_own=True)


@pytest.fixture
def prices(monkeypatch):
    """The default meter's price list; a test adds models to it."""
    prices = Prices()
    monkeypatch.setattr(Meter, "prices", prices)
    return prices


class Shell:
    """An IPython, and what its cells showed."""

    def __init__(self, ipython):
        self.ipython = ipython

    def run(self, cell):
        """Run a cell; what it raised is raised."""
        captured, result = self.try_to(cell)
        result.raise_error()
        return captured

    def try_to(self, cell):
        """Run a cell that may fail."""
        with capture_output() as captured:
            result = self.ipython.run_cell(cell, store_history=False)
        return captured, result

    def usage(self, cell):
        """What is shown below a metered cell, as lines of text."""
        return lines_of(self.run(cell))


def lines_of(captured):
    """The last thing that a cell displayed."""
    return captured.outputs[-1].data["text/plain"].splitlines()


@pytest.fixture
def shell(bare_shell, prices):
    """A shell whose prices are the test's."""
    return bare_shell


@pytest.fixture
def bare_shell(default_meter, tmp_path, monkeypatch):
    """An IPython with `%load_ext llm_metering`, and `llm_metering` imported."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    config = Config()
    config.HistoryManager.enabled = False
    InteractiveShell.clear_instance()
    ipython = InteractiveShell.instance(config=config)
    shell = Shell(ipython)
    shell.run("%load_ext llm_metering")
    shell.run("import llm_metering\nfrom llm_metering import TokenUsage")
    yield shell
    InteractiveShell.clear_instance()
    # The loop that cells await in, and its threads.
    loop = get_asyncio_loop()
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


USED = "llm_metering.record(TokenUsage(input_tokens=100, output_tokens=20), model='gpt-5');"
"""A statement that uses something."""
