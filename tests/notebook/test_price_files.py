"""What cells cost by the price files of the settings."""

from __future__ import annotations

import pytest

import llm_metering

from .conftest import lines_of

PRICES = """
currency = "EUR"
[[prices]]
provider = "openai"
model = "local"
per_million = { input = "2.00", cache_read = "0.20", output = "8.00" }
"""


@pytest.fixture
def priced(bare_shell, tmp_path):
    """A shell whose default meter has a price file."""
    file = tmp_path / "prices.toml"
    file.write_text(PRICES)
    llm_metering.configure(home=tmp_path / "home", prices=[file])
    bare_shell.file = file
    return bare_shell


def test_cost_is_exact(priced):
    """Each kind of token by its own price, and the ledger says the same."""
    shown = priced.usage(
        "%%metered acme\n"
        "used = TokenUsage(input_tokens=1500, output_tokens=7, cache_read_input_tokens=1000)\n"
        "llm_metering.record(used, model='local', provider='openai');"
    )

    # 500 at 2, 1,000 at 0.2 and 7 at 8, a million.
    assert shown[2].split()[-2:] == ["0.001256", "EUR"]
    costs = llm_metering.usage("cost_total", subject="acme")
    assert (str(costs.total), costs.currency) == ("0.001256", "EUR")


def test_wrong_price_file_runs_nothing(priced):
    """A cell whose cost nobody can say is not run; the message names the line of the file."""
    priced.file.write_text(PRICES.replace('"2.00"', '"cheap"'))

    captured, result = priced.try_to("%%metered acme\nran = True")

    assert type(result.error_in_exec).__name__ == "UsageError"
    assert f"{priced.file}:" in captured.stderr
    assert "ran" not in priced.ipython.user_ns


def test_unknown_model_has_no_price(priced):
    """Why is said below the table."""
    shown = lines_of(
        priced.run(
            "%%metered acme\nllm_metering.record(TokenUsage(input_tokens=1, output_tokens=1), model='x');"
        )
    )

    assert shown[2].split()[-2:] == ["no", "price"]
    assert shown[3].startswith("Without a price: 1, since")
