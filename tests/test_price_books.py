"""What usage costs, as a meter says it by the prices that its settings name."""

from decimal import Decimal

import pytest

from llm_metering import Meter
from llm_metering.errors import LedgerError, PriceError, QueryError
from llm_metering.meters import METERS, PRICED_METERS
from llm_metering.testing import OpenMeterServer

PRICES = """
currency = "USD"

[[prices]]
provider = "openai"
model = "gpt-5-mini"
effective_from = 2025-01-01
per_million = { input = "3", output = "15" }

[[credits]]
provider = "openai"
model = "gpt-5-mini"
effective_from = 2025-01-01
per_million = { input = "1000000", output = "1000000" }
"""
CALL = {
    "id": "1",
    "object": "chat.completion",
    "model": "gpt-5-mini",
    "choices": [],
    "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
}


@pytest.fixture
def prices(tmp_path):
    """A file with the user's own prices."""
    path = tmp_path / "prices.toml"
    path.write_text(PRICES)
    return path


def recorded(home, **settings):
    """A meter with one call, of a model that has a price, and one of a model that has none."""
    meter = Meter(home=home, source="tests", price_source="off", **settings)
    for number, model in enumerate(("gpt-5-mini", "unheard-of")):
        meter.record({**CALL, "id": str(number), "model": model}, "acme", provider="openai")
    return meter


def test_usage_prices_what_was_recorded(tmp_path, prices):
    """In money and in credits, what was recorded a moment ago as well."""
    with recorded(tmp_path / "home", prices=[prices]) as meter:
        report = meter.usage("cost_total")
        assert (report.total, report.currency, report.unpriced) == (Decimal("0.0006"), "USD", 1)
        report = meter.usage("credits_total", group_by="model")
        assert [(row.value, row.group_by["model"]) for row in report] == [(120, "gpt-5-mini")]
        meter.record({**CALL, "id": "3"}, "acme", provider="openai")
        assert meter.usage("cost_total").total == Decimal("0.0012")
        assert meter.prices.name == "prices.toml"
        assert meter.credits is not None


def test_without_prices_nothing_is_decided(tmp_path, prices):
    """Where none are named, events wait for some; a model without a price is decided, until `reprice`."""
    with recorded(tmp_path / "home") as meter:
        assert (meter.usage("cost_total").rows, meter.usage("cost_total").unpriced) == ((), 2)
        assert meter.credits is None
    with recorded(tmp_path / "home", prices=[prices]) as meter:
        assert meter.usage("cost_total").total == Decimal("0.0012")


def test_a_wrong_file_is_named_when_costs_are_asked_for(tmp_path, prices):
    """Recording and other questions go on."""
    prices.write_text(PRICES.replace('"3"', '"-3"'))
    with recorded(tmp_path / "home", prices=[prices]) as meter:
        assert meter.usage("tokens_total").total == 240
        with pytest.raises(PriceError, match=r"prices\.toml:\d"):
            meter.usage("cost_total")


def test_no_server_is_asked(tmp_path):
    """The message says who knows; nor can such a meter be made on one."""
    with OpenMeterServer(meters=[meter.to_dict() for meter in METERS.values()]) as server:
        sinks = [f"openmeter+{server.url}?name=there"]
        with recorded(tmp_path / "home", sinks=sinks) as meter:
            with pytest.raises(QueryError, match="server does not know cost_total: prices stay"):
                meter.usage("cost_total", backend="there")
            assert set(PRICED_METERS) <= set(meter.settings.meters)
    with (
        recorded(tmp_path / "other", sinks=sinks, ledger=False) as meter,
        pytest.raises(LedgerError, match="switched off; what usage costs is kept nowhere else"),
    ):
        meter.price()


def test_a_ledger_that_cannot_be_written(tmp_path, prices, monkeypatch):
    """An answer that would be short is refused, or says how short it is."""
    with recorded(tmp_path / "home", prices=[prices]) as meter:
        assert meter.take_in()

        def refuse(*_):
            raise LedgerError("another process keeps the ledger locked")

        monkeypatch.setattr("llm_metering.ledger.store.price_events", refuse)
        with pytest.raises(LedgerError, match="locked"):
            meter.usage("cost_total")
        assert meter.usage("cost_total", allow_incomplete=True).unpriced == 2
