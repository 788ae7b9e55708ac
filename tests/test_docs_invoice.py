"""The guide to an invoice in Stripe holds, up to where an account of Stripe's is needed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

import llm_metering
from llm_metering.cli.app import app
from tests.sinks.stripe_server import KEY, StripeServer

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "how-to" / "invoice-with-stripe.md").read_text("utf-8")


def blocks(language):
    """The code blocks of the page in a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def site(model_server, home, tmp_path, monkeypatch):
    """What the page has a reader set, with a stub in the place of Stripe's hosts."""
    customers = tmp_path / "customers.toml"
    customers.write_text(blocks("toml")[0])
    [line] = re.findall(r'export LLM_METERING_SINKS="(.*)"', PAGE)
    with StripeServer("other", "llm_tokens") as server:
        url = line.replace("stripe://", server.base)
        monkeypatch.setenv(
            "LLM_METERING_SINKS", url.replace("/etc/my-app/customers.toml", str(customers))
        )
        monkeypatch.setenv("STRIPE_API_KEY", KEY)
        monkeypatch.setenv("STRIPE_API_BASE", server.base.removeprefix("stripe+"))
        monkeypatch.setenv("LLM_METERING_HOME", str(home))
        monkeypatch.setenv("OPENAI_BASE_URL", model_server.openai_url)
        monkeypatch.setenv("OPENAI_API_KEY", "none-needed")
        yield server, customers
        llm_metering.close()


def compare(customers):
    """The page's comparison of this month with Stripe's."""
    today = datetime.now(UTC).date()
    days = [str(today - timedelta(days=1)), str(today + timedelta(days=2))]
    example = ROOT / "examples" / "reconcile_with_stripe.py"
    return subprocess.run(
        [sys.executable, example, "mtr_llm_tokens", customers, *days],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )


def test_the_page_goes_from_a_call_to_stripes_sum(site):
    """Doctor, call, status and comparison are well, and the customer of the file has the tokens."""
    server, customers = site
    [customer] = tomllib.loads(blocks("toml")[0])["stripe_customers"].values()
    doctor = CliRunner().invoke(app, ["doctor"])

    exec(compile(blocks("python")[0], "the page", "exec"), {})

    [row] = [
        each for each in llm_metering.get_meter().statistics()["sinks"] if each["name"] == "stripe"
    ]
    [tokens] = server.values("llm_tokens", customer)
    compared = compare(customers)
    assert "there is an active meter for llm_tokens" in " ".join(doctor.output.split())
    assert (row["state"], row["acked"], row["dead"]) == ("ok", 1, 0)
    assert tokens > 0
    assert compared.stdout == f"{customer}: {tokens} tokens here, {tokens} at Stripe\n"
    assert (compared.returncode, compared.stderr) == (0, "")

    # What Stripe dropped is seen.
    server.counted.clear()
    dropped = compare(customers)
    assert dropped.stdout == f"{customer}: {tokens} tokens here, 0 at Stripe\n"
    assert dropped.returncode == 1


def test_a_customer_who_was_forgotten_is_billed_in_the_end(site):
    """The page's way: the dead letter says why, the file is mended, `dead retry` and `drain`."""
    server, customers = site
    customers.write_text('[stripe_customers]\nglobex = "cus_2"\n')
    exec(compile(blocks("python")[0], "the page", "exec"), {})
    llm_metering.close()
    listed = CliRunner().invoke(app, ["dead", "list"])
    before = compare(customers)

    customers.write_text(blocks("toml")[0])
    [commands] = [block for block in blocks("sh") if block.startswith("llm-metering dead retry")]
    done = [CliRunner().invoke(app, line.split()[1:]) for line in commands.splitlines()]

    assert "no customer of Stripe's" in " ".join(listed.output.split())
    assert before.returncode == 1
    assert "no customer of Stripe's" in before.stdout
    assert [each.exit_code for each in done] == [0, 0]
    assert len(server.values("llm_tokens")) == 1
    assert compare(customers).returncode == 0
