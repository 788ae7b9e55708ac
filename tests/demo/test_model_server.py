"""The real model server: it starts, counts, and never outlives the process that wanted it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import httpx
import pytest

from llm_metering.demo import _serve
from llm_metering.demo.counters import ModelServerError, ServerCounters, ServerMetrics
from llm_metering.demo.model_server import MissingServerError, ModelServer
from llm_metering.errors import MissingExtraError

WAIT = 20.0

METRICS = """\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed, excluding cached tokens
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total {evaluated}
llamacpp:prompt_tokens_cached_total 24
llamacpp:tokens_predicted_total 48
llamacpp:tokens_predicted_seconds_total 0.5
llamacpp:requests_processing 1
llamacpp:requests_deferred 2
"""


@pytest.fixture
def api(model_server):
    """A plain HTTP client of the server: no framework, no SDK."""
    with httpx.Client(base_url=model_server.base_url, trust_env=False, timeout=WAIT) as client:
        yield client


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that ended but was not waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_for_end(pid: int) -> bool:
    """Say whether a process ends while somebody may reasonably wait for it."""
    deadline = time.monotonic() + WAIT
    while is_alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_answer_is_counted(model_server, api):
    """What an answer reports is what the server's counters moved by, its cache included."""
    message = {"role": "user", "content": "count me"}
    request = {"model": "tiny", "messages": [message], "max_tokens": 7}

    for _ in range(2):
        before = model_server.counters()
        usage = api.post("/v1/chat/completions", json=request).json()["usage"]
        counted = model_server.counters() - before

        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (counted.prompt, 7)
        assert usage["prompt_tokens_details"]["cached_tokens"] == counted.prompt_cached
        assert counted.predicted == 7
    assert counted.prompt_cached > 0


LONG_STREAM = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "write a long story"}],
    "max_tokens": 1500,
    "stream": True,
}


def test_idle_is_when_all_is_counted(model_server, api):
    """A request under way is waited for; what it generates is counted when it ends."""
    before = model_server.wait_until_idle()
    with api.stream("POST", "/v1/chat/completions", json=LONG_STREAM) as response:
        pieces = response.iter_bytes()  # dropping the iterator would close the connection
        next(pieces)
        with pytest.raises(ModelServerError, match="still busy after 0 s"):
            model_server.wait_until_idle(timeout=0)
        counted = model_server.wait_until_idle() - before

    assert counted.predicted == 1500


def test_abandoned_stream_is_counted_once_idle(model_server, api):
    """A stream that its client left is in the counters when the server is idle again."""
    before = model_server.wait_until_idle()
    with api.stream("POST", "/v1/chat/completions", json=LONG_STREAM) as response:
        next(response.iter_bytes())
    counted = model_server.wait_until_idle() - before

    assert 0 < counted.predicted <= 1500
    assert counted.prompt > 0


@pytest.mark.parametrize(
    ("path", "request_body", "expected"),
    [
        pytest.param(
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4},
            '"completion_tokens":4',
            id="OpenAI chat completions",
        ),
        pytest.param(
            "/v1/completions",
            {"prompt": "hi", "max_tokens": 4},
            '"completion_tokens":4',
            id="OpenAI completions",
        ),
        pytest.param(
            "/v1/responses",
            {"input": "hi", "max_output_tokens": 4},
            '"output_tokens":4',
            id="OpenAI responses",
        ),
        pytest.param(
            "/v1/messages",
            {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4},
            '"output_tokens":4',
            id="Anthropic messages",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_every_api_answers(api, path, request_body, expected, stream):
    """The tiny model answers in every API, whole and streamed, and reports its output tokens."""
    body = {"model": "tiny", "stream": stream, **request_body}
    if stream and "completions" in path:
        body["stream_options"] = {"include_usage": True}

    response = api.post(path, json=body)

    assert response.status_code == httpx.codes.OK
    assert expected in response.text


def test_answer_ends_at_the_limit(model_server, api):
    """A request without a limit of its own is answered up to the server's."""
    message = {"role": "user", "content": "hi"}

    answer = api.post("/v1/chat/completions", json={"messages": [message]}).json()

    assert answer["usage"]["completion_tokens"] == 256
    assert answer["model"] == model_server.alias == "tiny"


@pytest.mark.parametrize(
    ("text", "count"),
    [pytest.param("", 0, id="empty"), pytest.param("Hello wörld", 12, id="one a byte")],
)
def test_tokenize(model_server, text, count):
    """The server counts the tokens of a text; in the tiny model each byte is one."""
    assert model_server.tokenize(text) == count


def test_ends_with_its_block(tiny_model):
    """After the block the process is gone, its folder too, and the server has no address."""
    folders = set(Path(tempfile.gettempdir()).glob("llm-metering-server-*"))
    with ModelServer(tiny_model, "tiny") as server:
        pid, url = server.pid, server.base_url
        assert httpx.get(f"{url}/health", trust_env=False).status_code == httpx.codes.OK

    assert not is_alive(pid)
    assert set(Path(tempfile.gettempdir()).glob("llm-metering-server-*")) <= folders
    assert server.pid is None
    with pytest.raises(ModelServerError, match="not running"):
        _ = server.base_url


def test_ends_with_its_block_while_it_generates(tiny_model):
    """A request in flight does not keep the server alive."""
    message = {"role": "user", "content": "hi"}
    body = {"messages": [message], "max_tokens": 1500, "stream": True}
    with ModelServer(tiny_model, "tiny") as server:
        pid = server.pid
        with (
            httpx.Client(trust_env=False) as client,
            client.stream("POST", f"{server.openai_url}/chat/completions", json=body) as response,
        ):
            pieces = response.iter_bytes()
            next(pieces)
            server.__exit__(None, None, None)
            assert not is_alive(pid)


def run_parent(tiny_model: Path, *, then: str) -> subprocess.Popen[str]:
    """Start a process that enters a `ModelServer`, prints its pid, and does `then`."""
    code = f"""
        import os, sys, time
        from pathlib import Path
        from llm_metering.demo.model_server import ModelServer
        with ModelServer(Path({str(tiny_model)!r}), "tiny") as server:
            print(server.pid, flush=True)
            {then}
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_ends_when_its_parent_is_killed(tiny_model):
    """A parent that gets SIGKILL, and can clear up nothing, leaves no server behind."""
    with run_parent(tiny_model, then="time.sleep(600)") as parent:
        server = int(parent.stdout.readline())
        assert is_alive(server)

        parent.kill()
        assert wait_for_end(server)


def test_ends_when_its_parent_is_killed_but_not_its_sibling(tiny_model):
    """A process forked off the parent holds the server's stdin open; the server ends even so."""
    fork = "print(os.fork() or os._exit(time.sleep(600)), flush=True); time.sleep(600)"
    with run_parent(tiny_model, then=fork) as parent:
        server, sibling = int(parent.stdout.readline()), int(parent.stdout.readline())
        assert is_alive(server)
        try:
            parent.kill()
            assert wait_for_end(server)
            assert is_alive(sibling)
        finally:
            os.kill(sibling, signal.SIGKILL)


def test_child_ends_with_its_stdin(tiny_model, tmp_path):
    """That its stdin ends is enough for the child, and it takes its folder along."""
    folder = tmp_path / "folder"
    folder.mkdir()
    numbers = {"parent": os.getpid(), "parallel": 1, "threads": 1, "context": 64}
    options = {**numbers, "answer-limit": 8, "folder": folder, "model": tiny_model, "alias": "tiny"}
    command = [sys.executable, _serve.__file__]
    command += [f"--{name}={value}" for name, value in options.items()]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    ) as child:
        deadline = time.monotonic() + WAIT
        while not (folder / "address").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert child.poll() is None

        child.stdin.close()
        try:
            assert child.wait(WAIT) == 0
        finally:
            child.kill()
    assert not folder.exists()


def test_nothing_of_it_is_loaded_here(tiny_model):
    """A process that runs a server does not load the server's library."""
    with run_parent(tiny_model, then="print('xllamacpp' in sys.modules, flush=True)") as parent:
        assert parent.stdout.read().split()[1:] == ["False"]


def test_broken_model_is_refused_with_the_log(tmp_path):
    """A file that is no model is an error that shows the end of the server's log."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not a model")

    with pytest.raises(ModelServerError, match="ended with 1; the end of its log") as caught:
        ModelServer(broken, "broken").__enter__()

    assert "failed to load model" in str(caught.value)


def test_absent_model_is_refused(tmp_path):
    """A file that is not there is named."""
    with pytest.raises(ModelServerError, match=r"there is no model file .*absent\.gguf"):
        ModelServer(tmp_path / "absent.gguf", "absent").__enter__()


def test_slow_start_is_refused(tiny_model):
    """A server that does not answer in time is stopped, and the error says so."""
    with pytest.raises(ModelServerError, match=r"did not answer within 0 s") as caught:
        ModelServer(tiny_model, "tiny", start_timeout=0).__enter__()

    assert "the end of its log" in str(caught.value)


def test_missing_server_names_the_extra(tiny_model, monkeypatch):
    """Without xllamacpp the error says what to install, and where that can be done."""
    # None in sys.modules is how Python itself marks a module as not importable.
    monkeypatch.setitem(sys.modules, "xllamacpp", None)

    with pytest.raises(MissingExtraError, match=r"pip install 'llm-metering\[demo\]'") as caught:
        ModelServer(tiny_model, "tiny").__enter__()

    assert isinstance(caught.value, MissingServerError)
    assert "macOS 13" in str(caught.value)


def test_metrics_are_read():
    """Counters and running requests are read from the Prometheus text."""
    assert ServerMetrics.parse(METRICS.format(evaluated=10)) == ServerMetrics(
        counters=ServerCounters(prompt_evaluated=10, prompt_cached=24, predicted=48), requests=3
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("llamacpp:other 1\n", "has no llamacpp:prompt_tokens_total", id="absent"),
        pytest.param(METRICS.format(evaluated="1.00096e+06"), "no exact count", id="rounded"),
    ],
)
def test_metrics_that_cannot_be_compared_are_refused(text, message):
    """A counter that is absent, or rounded as llama.cpp does from a million on, is an error."""
    with pytest.raises(ModelServerError, match=message):
        ServerMetrics.parse(text)
