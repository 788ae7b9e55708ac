"""The demo's calls, against the tiny model: what we metered is what the server counted."""

from __future__ import annotations

import io
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from llm_metering.demo import run_demo
from llm_metering.demo.counters import ModelServerError, ServerCounters
from llm_metering.demo.model_server import ModelServer
from llm_metering.demo.report import show
from llm_metering.demo.result import AbandonedStream, DemoResult, UsageLine
from llm_metering.demo.scenario import CALLS, SUBJECTS, run_scenario
from llm_metering.meter import Meter


@pytest.fixture
def meter(home):
    """A meter of the test's own, with a ledger and no other sink."""
    with Meter(home, ()) as meter:
        yield meter


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where this test's temporary files go."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def no_progress(done, following):
    """Show nothing."""


def unmetered_call(server):
    """Make a call that no handler sees."""
    message = {"role": "user", "content": "nobody meters me"}
    answer = httpx.post(
        f"{server.openai_url}/chat/completions",
        json={"messages": [message], "max_tokens": 3},
        trust_env=False,
    )
    return answer.json()["usage"]


def make_result(**changes):
    """A result whose totals agree, but for what `changes` says."""
    line = UsageLine(subject="demo-acme", model="tiny", calls=2, input_tokens=30, output_tokens=12)
    stream = AbandonedStream(
        subject="demo-acme",
        status="aborted",
        provenance="estimated",
        count_method="ratio:unknown:o200k_base",
        input_tokens=38,
        output_tokens=24,
        server=ServerCounters(prompt_evaluated=40, predicted=25),
    )
    values = {
        "run": "0123456789ab",
        "calls": 2,
        "delivered": True,
        "lines": (line,),
        "server": ServerCounters(prompt_evaluated=10, prompt_cached=20, predicted=12),
        "abandoned": stream,
    }
    return DemoResult(**{**values, **changes})


def printed(result, home=Path("/a home")):
    """What people see of a result, on one long line each."""
    console = Console(file=io.StringIO(), width=200)
    show(console, result, home)
    return console.file.getvalue()


def test_totals_agree(meter, model_server):
    """Whole, streamed, async and concurrent calls are metered with the server's own counts."""
    result = run_scenario(meter, model_server, no_progress)

    assert result.agree
    assert result.input_tokens == result.server.prompt > 0
    assert result.output_tokens == result.server.predicted == CALLS * 16
    assert [(line.subject, line.model, line.calls) for line in result.lines] == [
        (subject, "tiny", CALLS // len(SUBJECTS)) for subject in SUBJECTS
    ]
    # Each asks longer questions than the one before: none pays for another's.
    inputs = [line.input_tokens for line in result.lines]
    assert inputs == sorted(set(inputs))


def test_abandoned_stream_is_estimated(meter, model_server):
    """Of the stream that was left there is one event, with our count of what went in and came."""
    stream = run_scenario(meter, model_server, no_progress).abandoned

    assert (stream.subject, stream.status, stream.provenance) == (
        "demo-acme",
        "aborted",
        "estimated",
    )
    assert stream.count_method
    # The tiny model's tokens are bytes, of which no tokenizer of the world can know.
    assert stream.input_tokens > 0
    assert stream.output_tokens > 0
    assert stream.server.predicted >= 24


def test_withheld_call_is_found_out(meter, model_server):
    """One call that the meter never saw makes the totals disagree by just its tokens."""
    withheld = []

    def progress(done, following):
        if not withheld:
            withheld.append(unmetered_call(model_server))

    result = run_scenario(meter, model_server, progress)

    assert not result.agree
    assert result.server.prompt - result.input_tokens == withheld[0]["prompt_tokens"]
    assert result.server.predicted - result.output_tokens == withheld[0]["completion_tokens"]


def test_progress_covers_every_call(meter, model_server):
    """Progress starts at no call, never goes back, and ends after the last one."""
    steps = []

    run_scenario(meter, model_server, lambda done, following: steps.append(done))

    assert steps == sorted(steps)
    assert (steps[0], steps[-1]) == (0, CALLS + 1)


def test_only_this_run_is_compared(meter, model_server):
    """What the home holds of earlier runs is left out of the comparison, and kept."""
    first = run_scenario(meter, model_server, no_progress)
    second = run_scenario(meter, model_server, no_progress)

    assert first.agree
    assert second.agree
    assert meter.usage("calls_total").total == 2 * (CALLS + 1)


def test_nobody_else_hears_of_it(home, tiny_model):
    """A developer's tracing, proxies and OpenAI settings get no connection from the demo."""
    code = """
        import sys
        from pathlib import Path
        from rich.console import Console
        from llm_metering.demo import run_demo
        raise SystemExit(run_demo(Console(), Path(sys.argv[1]), "json", model=Path(sys.argv[2])))
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        elsewhere = f"http://127.0.0.1:{listener.getsockname()[1]}"
        addresses = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "OPENAI_PROXY", "OPENAI_BASE_URL")
        environment = {
            **os.environ,
            **dict.fromkeys((*addresses, "LANGSMITH_ENDPOINT"), elsewhere),
            "LANGSMITH_TRACING": "true",
            "LANGSMITH_API_KEY": "secret",
            "LLM_METERING_SINKS": f"openmeter+{elsewhere}",
        }
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), str(home), str(tiny_model)],
            check=True,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

        with pytest.raises(BlockingIOError):
            listener.accept()
    # Nor does a library complain about them: all there is to read is the progress bar.
    assert len(done.stderr.splitlines()) == 1


def test_failing_call_is_an_error_of_ours(meter, tiny_model):
    """A server that dies in between is reported as such, not as an error of some SDK."""
    with ModelServer(tiny_model, "tiny") as server:

        def progress(done, following):
            server.__exit__(None, None, None)

        with pytest.raises(ModelServerError):
            run_scenario(meter, server, progress)


def test_missing_framework_names_the_extra():
    """Without LangChain's OpenAI package the error says what to install."""
    code = """
        import sys
        sys.modules["langchain_openai"] = None
        from llm_metering.errors import MissingExtraError
        try:
            import llm_metering.demo.scenario
        except MissingExtraError as error:
            print(error)
    """

    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )

    assert "pip install 'llm-metering[demo]'" in found.stdout


def test_demo_prints_tables(home, tiny_model):
    """People see the usage by subject, both totals, the abandoned stream, and the home."""
    console = Console(file=io.StringIO(), width=120)

    code = run_demo(console, home, "table", model=tiny_model)

    text = console.file.getvalue()
    assert code == 0
    assert all(subject in text for subject in SUBJECTS)
    assert "totals agree" in text
    assert "Abandoned stream of demo-acme" in text
    assert str(home) in text


def test_demo_prints_json(home, tiny_model):
    """Programs get one object and nothing else, whatever the width."""
    console = Console(file=io.StringIO(), width=20)

    code = run_demo(console, home, "json", model=tiny_model)

    found = json.loads(console.file.getvalue())
    assert code == 0
    assert found["agree"] is True
    assert found["home"] == str(home)
    assert found["metered"]["input_tokens"] == found["server"]["input_tokens"]
    assert found["abandoned"]["provenance"] == "estimated"
    assert [line["subject"] for line in found["usage"]] == list(SUBJECTS)


def test_demo_makes_a_home_of_its_own(temporary, tiny_model, monkeypatch):
    """Without a home two runs use a private one each, and ship to no sink of the environment."""
    monkeypatch.setenv("LLM_METERING_SINKS", "openmeter+http://127.0.0.1:9")
    homes = []
    for _ in range(2):
        console = Console(file=io.StringIO())
        assert run_demo(console, None, "json", model=tiny_model) == 0
        homes.append(Path(json.loads(console.file.getvalue())["home"]))

    assert len(set(homes)) == 2
    for home in homes:
        assert home.parent == temporary
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        with Meter(home, ()) as meter:
            assert [sink["name"] for sink in meter.statistics()["sinks"]] == ["ledger"]


def test_demo_uses_the_home_of_the_environment(home, temporary, tiny_model, monkeypatch):
    """With LLM_METERING_HOME the demo adds to that home and makes none."""
    monkeypatch.setenv("LLM_METERING_HOME", str(home))

    for _ in range(2):
        assert run_demo(Console(file=io.StringIO()), None, "json", model=tiny_model) == 0

    assert list(temporary.glob("llm-metering-demo-*")) == []
    with Meter(home, ()) as meter:
        assert meter.usage("calls_total").total == 2 * (CALLS + 1)


def test_agreement_is_shown():
    """Two equal totals are shown beside each other, with the words people look for."""
    text = printed(make_result())

    assert "\ntotals agree\n" in text
    assert "30 = 10 evaluated + 20 cached" in " ".join(text.split())
    assert "provenance estimated, counted by ratio:unknown:o200k_base; 38 in and 24 out" in text
    assert "llm-metering usage --home '/a home' --group-by subject --group-by model" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"calls": 3}, "3 calls were made, 2 are in the ledger", id="calls"),
        pytest.param(
            {"server": ServerCounters(prompt_evaluated=31, predicted=12)},
            "input tokens differ by -1 (metered 30, server 31)",
            id="input",
        ),
        pytest.param(
            {"server": ServerCounters(prompt_evaluated=30, predicted=10)},
            "output tokens differ by +2 (metered 12, server 10)",
            id="output",
        ),
        pytest.param(
            {"abandoned": None}, "the abandoned stream is not in the ledger", id="abandoned"
        ),
        pytest.param({"delivered": False}, "not every event had reached", id="undelivered"),
    ],
)
def test_disagreement_is_shown(changes, message):
    """Whatever does not agree is named, and the words for agreement are absent."""
    result = make_result(**changes)

    assert not result.agree
    assert not result.to_dict()["agree"]
    assert f"TOTALS DISAGREE: {message}" in printed(result)
    assert "totals agree" not in printed(result)
