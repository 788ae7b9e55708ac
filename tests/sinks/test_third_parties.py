"""Sinks of other packages: found by their entry points, opened by URL, told apart when they are broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import tomllib
import traceback
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from llm_metering import Meter, TokenUsage
from llm_metering.errors import ConfigurationError, SinkURLError
from llm_metering.sinks import ENTRY_POINTS, Delivery, open_sink
from llm_metering.sinks.memory import MemorySink
from llm_metering.testing import RemoteSinkContract
from llm_metering.transport.status import home_status
from tests.factories import batch_of, make_event

EXAMPLE = Path(__file__).parents[2] / "examples" / "your_own_sink"


def install(folder: Path, modules: dict[str, str], entries: dict[str, str], name="acme") -> Path:
    """Put a distribution into a folder, as an installer does."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"[{ENTRY_POINTS}]", *(f"{key} = {value}" for key, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)
    return folder


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a distribution for this process, until the test ends."""

    def installed(modules, entries, name="acme"):
        monkeypatch.syspath_prepend(install(tmp_path / f"site-{name}", modules, entries, name))

    before = set(sys.modules)
    yield installed
    for each in set(sys.modules) - before:
        if each.startswith("acme_"):
            del sys.modules[each]


@pytest.fixture
def example(tmp_path) -> Path:
    """The folder in which the example of the documentation is installed, by its own pyproject."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    text = (EXAMPLE / "acme_sink.py").read_text()
    entries = project["entry-points"][ENTRY_POINTS]
    return install(tmp_path / "site", {"acme_sink": text}, entries, project["name"])


def test_the_example_keeps_the_contract(example):
    """`examples/your_own_sink` is found by its entry point and passes its own test, all of it."""
    path = os.pathsep.join([str(example), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"),
            *("--rootdir", EXAMPLE, EXAMPLE / "test_acme_sink.py"),
        ],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    [passed] = [line for line in done.stdout.splitlines() if " passed" in line]
    promises = [name for name in dir(RemoteSinkContract) if name.startswith("test_")]
    assert int(passed.split()[0]) == len(promises)


class _Billing(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format, *args):
        """Say nothing."""


@pytest.fixture
def billing():
    """A server that takes anything."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Billing) as server:
        server.bodies = []
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("way", ["argument", "variable"])
def test_a_meter_ships_to_it(example, billing, home, monkeypatch, way):
    """By `Meter(sinks=…)` and by LLM_METERING_SINKS, beside a sink of ours."""
    monkeypatch.syspath_prepend(example)
    monkeypatch.delitem(sys.modules, "acme_sink", raising=False)
    url = f"acme+http://127.0.0.1:{billing.server_port}/v1"
    if way == "variable":
        monkeypatch.setenv("LLM_METERING_SINKS", f"memory:,{url}")
    sinks = None if way == "variable" else ["memory:", url]

    with Meter(home, sinks, source="shop", ledger=False) as meter:
        event = meter.record(TokenUsage(input_tokens=5), "acme", model="m")
        assert meter.flush()
        rows = {row["name"]: row["acked"] for row in meter.statistics()["sinks"]}

    assert rows == {"memory": 1, "acme": 1}
    [body] = billing.bodies
    assert f"shop/{event.id}".encode() in body


def test_the_example_follows_no_redirect(example, monkeypatch):
    """A POST that is sent elsewhere arrives there as a GET, and its 200 would say that all is stored."""
    monkeypatch.syspath_prepend(example)
    monkeypatch.delitem(sys.modules, "acme_sink", raising=False)

    class Moved(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format, *args):
            """Say nothing."""

    batch = batch_of([make_event()])
    with ThreadingHTTPServer(("127.0.0.1", 0), Moved) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        sink = open_sink(f"acme+http://127.0.0.1:{server.server_port}/v1", source="shop")
        delivery = sink.deliver(batch)
        server.shutdown()
        thread.join()

    assert delivery == Delivery.try_later(batch, "HTTP 302", hold=True)


MINIMAL = """
from llm_metering.sinks import Delivery, SinkLimits
class Sink:
    name, url, account, limits = "acme", "acme:", "", SinkLimits()
    def deliver(self, batch): return Delivery.all_accepted(batch)
    def close(self): pass
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "import no_such_package",
            r"sinks: the sink 'acme' cannot be loaded from acme_x:make: ModuleNotFoundError: .*no_such",
            id="does not import",
        ),
        pytest.param(
            "1 / 0", "cannot be loaded from acme_x:make: ZeroDivisionError", id="breaks off"
        ),
        pytest.param(
            "x = 1", "cannot be loaded from acme_x:make: AttributeError", id="no such name"
        ),
        pytest.param("make = 5", "the sink 'acme' is no function: acme_x:make", id="no function"),
        pytest.param(
            "def make(url, context): return int(url)",
            r"the sink 'acme' cannot be made: ValueError \(acme_x.py, line 1\)$",
            id="raises",
        ),
        pytest.param(
            "def make(url, context): pass", "is no sink: it has no name", id="makes nothing"
        ),
        pytest.param(
            MINIMAL + "    del close\ndef make(url, context): return Sink()",
            "what acme_x:make makes is no sink: it has no close",
            id="makes half a sink",
        ),
        *(
            pytest.param(
                f"{MINIMAL}    {attribute} = {value}\ndef make(url, context): return Sink()",
                f"what acme_x:make makes is no sink: its {message}",
                id=f"{attribute} = {value}",
            )
            for attribute, value, message in (
                ("account", "None", "account is NoneType, not a string"),
                ("name", "5", "name is int, not a string"),
                ("name", "''", "name is empty"),
                ("url", r"'acme:\n'", "url is empty or not printable"),
                ("limits", "None", "limits are NoneType, not SinkLimits"),
            )
        ),
        pytest.param(
            MINIMAL + "\ndef make(url, context): return SinkLimits(max_events=0)",
            r"cannot be made: ValueError \(base.py",
            id="no room in a batch",
        ),
    ],
)
def test_a_broken_package_is_told_from_a_wrong_url(installed, text, message):
    """The error names the sink and the place in the package, and never the URL."""
    installed({"acme_x": text}, {"acme": "acme_x:make"})

    with pytest.raises(ConfigurationError, match=message) as caught:
        open_sink("acme:hunter2", source="s")

    assert not isinstance(caught.value, SinkURLError)
    # With all that led to it; limit=0 leaves out our own lines.
    assert "hunter2" not in "".join(traceback.format_exception(caught.value, limit=0))


def test_an_object_that_is_no_sink_is_refused_before_anything_is_written(home):
    """A debt to nobody in particular would make its segments unreadable, for every sink."""
    sink = MemorySink()
    sink.account = None

    with pytest.raises(ConfigurationError, match="object of MemorySink is no sink: its account"):
        Meter(home, [sink], source="shop")

    assert not list(home.glob("journal/**/*.seg"))


def _deliver_nothing(sink, batch):
    batch.clear()


def _say_bytes(sink, batch):
    ids = frozenset(each.id for each in batch)
    return Delivery(retryable=ids, reason=b"\x1b[31m" + batch[0].payload)


def _say_much(sink, batch):
    return Delivery.try_later(batch, "\x1b[31mno\n" * 5000)


@pytest.mark.parametrize(
    ("deliver", "reason"),
    [
        pytest.param(_deliver_nothing, "AttributeError in the sink", id="empties the batch"),
        pytest.param(_say_bytes, "bytes", id="a reason that is no text"),
        pytest.param(_say_much, ("[31mno " * 5000)[:999] + "…", id="a reason without an end"),
    ],
)
def test_whatever_a_sink_does_its_events_stay_and_status_says_why(
    home, monkeypatch, deliver, reason
):
    """Its batch is its own, and what it says can be shown and read by programs."""
    monkeypatch.setattr(MemorySink, "deliver", deliver)

    meter = Meter(home, ["memory:"], source="shop", ledger=False)
    meter.record(TokenUsage(input_tokens=5), "acme", model="m")
    meter.close(0.5)
    [row] = home_status(home)["sinks"]

    assert (row["pending"], row["state"], row["reason"]) == (1, "backoff", reason)
    assert json.loads(json.dumps(row)) == row


def test_its_own_word_on_a_url_is_passed_on(installed):
    """`SinkURLError` is raised as it is, and so is any error of this library."""
    text = "from llm_metering.errors import SinkURLError\ndef make(url, context): raise SinkURLError('no moon')"
    installed({"acme_x": text}, {"acme": "acme_x:make"})

    with pytest.raises(SinkURLError, match="sinks: no moon"):
        open_sink("acme:", source="s")


def test_what_it_is_made_with(installed):
    """The URL, the application's source, what is wanted of events, and the secrets that are set."""
    text = MINIMAL + "seen = []\ndef make(url, context): seen.append((url, context)); return Sink()"
    installed({"acme_x": text}, {"acme": "acme_x:make"})

    open_sink(" acme:x ", source="shop", event_type="t", webhook_token="k", openmeter_token=None)

    [(url, context)] = sys.modules["acme_x"].seen
    assert (url, context.source, context.event_type, context.event_id) == (
        "acme:x",
        "shop",
        "t",
        "call",
    )
    assert context.credentials == {"webhook_token": "k"}
    assert "'k'" not in repr(context)


def test_nobody_takes_over_a_scheme_of_ours(installed):
    """Usage goes where the documentation says, whatever else is installed."""
    installed({"acme_x": "1 / 0"}, {"memory": "acme_x:make"})

    assert isinstance(open_sink("memory:", source="s"), MemorySink)


def test_two_packages_with_one_scheme_are_refused(installed):
    """Which of them it would be hangs on the order of folders."""
    installed({"acme_x": MINIMAL}, {"acme": "acme_x:Sink"})
    installed({"acme_y": MINIMAL}, {"acme": "acme_y:Sink"}, name="other")

    with pytest.raises(ConfigurationError, match=r"two packages .* acme_x:Sink and acme_y:Sink"):
        open_sink("acme:", source="s")


def test_an_unknown_scheme_lists_theirs_too(installed):
    """Who mistypes one sees what is installed, each once."""
    installed({"acme_x": "1 / 0"}, {"acme+https": "acme_x:make"})

    with pytest.raises(SinkURLError, match="unknown scheme 'akme'") as caught:
        open_sink("akme://x", source="s")

    listed = Counter(str(caught.value).partition("there are ")[2].split(", "))
    assert listed["acme+https:"] == 1
    assert listed["jsonl:"] == 1
