"""`llm-metering serve`, as it is run: started, reached, slowed down, stopped and killed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

import httpx
import pytest
import uvicorn

from llm_metering.meter import Meter
from llm_metering.server import ServerOptions, create_app, protocol
from llm_metering.server.intake import Intake
from llm_metering.server.running import is_loopback

from .conftest import EVENTS, audit, bearer, event

JSON = {"Content-Type": "application/json"}


def refused(home, *arguments):
    """What it says when it does not start."""
    result = subprocess.run(
        [sys.executable, "-m", "llm_metering", "serve", "--home", str(home), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2
    return result.stderr


def test_it_takes_in_events_until_it_is_stopped(serve, recorded):
    """SIGTERM ends it in an orderly way: what was taken is shipped, and the exit code is 0."""
    server = serve()
    assert server.url.startswith("http://127.0.0.1:")
    for number in range(3):
        response = httpx.post(server.url + EVENTS, json=event(str(number), source=f"app-{number}"))
        assert response.status_code == 204
    assert httpx.get(server.url + "/readyz").json() == {"status": "ok"}

    assert server.stop() == 0
    assert server.said.count("\n") == 1
    for number in range(3):
        assert set(recorded(f"app-{number}")) == {str(number)}


def test_another_process_meters_into_it_as_into_openmeter(serve, keys, recorded, tmp_path):
    """With our own sink for OpenMeter, unchanged: the same events, under the same ids."""
    _, key = keys.create("shop", ["ingest"], sources=["shop"])
    server = serve()
    sink = f"openmeter+{server.url}"
    response = {
        "object": "chat.completion",
        "model": "gpt-5-mini",
        "choices": [],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }
    with Meter(tmp_path / "elsewhere", [sink], source="shop", openmeter_token=key) as meter:
        sent = [meter.record(response, "acme").id for _ in range(250)]
        assert meter.flush(30)
        rows = {row["name"]: row for row in meter.statistics()["sinks"]}
    assert (rows["openmeter"]["acked"], rows["openmeter"]["dead"]) == (250, 0)
    assert server.stop() == 0

    found = recorded("shop")
    assert set(found) == set(sent)
    assert {each["data"]["total_tokens"] for each in found.values()} == {120}


WITHOUT = """
import sys
sys.modules["uvicorn"] = None
sys.argv = ["llm-metering", "serve"]
from llm_metering.cli import main
main()
"""


def test_without_its_packages_it_says_which_extra_has_them(home):
    """In a line."""
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=60, check=False
    )

    assert result.returncode == 2
    assert "pip install 'llm-metering[server]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_full_disk_is_answered_with_503_until_there_is_room(serve, recorded):
    """A real one, as far as the process can tell: no file of it may grow any more."""
    server = serve()
    assert httpx.post(server.url + EVENTS, json=event("1")).status_code == 204
    soft, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)

    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (1, hard))
    for _ in range(3):
        response = httpx.post(server.url + EVENTS, json=event("2"), timeout=30)
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "5"
    assert httpx.get(server.url + "/readyz", timeout=30).status_code == 503
    assert httpx.get(server.url + "/healthz").status_code == 200
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (soft, hard))

    # The ledger, which was to be made meanwhile, takes a moment more.
    for path, request in ((EVENTS, {"json": event("2")}), ("/readyz", {})):
        deadline = time.monotonic() + 30
        method = "POST" if request else "GET"
        while (
            status := httpx.request(method, server.url + path, timeout=30, **request).status_code
        ) == 503:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert status == (204 if request else 200)
    assert server.stop() == 0
    assert set(recorded()) == {"1", "2"}


class Load:
    """Threads that send batches for as long as they are answered.

    Attributes:
        sent: The ids of all that was sent, by source.
        taken: Of those, the ones that were answered with 2xx.
    """

    def __init__(self, url, seed):
        self.sent = {"app": set(), "batch": set()}
        self.taken = {"app": set(), "batch": set()}
        self._url = url + EVENTS
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._go, args=[f"{seed}.{n}"], daemon=True) for n in range(4)
        ]
        for thread in self._threads:
            thread.start()

    def _go(self, name):
        chance = random.Random(name)
        last = []
        with httpx.Client() as client:
            for number in range(10_000):
                ids = [f"{name}.{number}.{each}" for each in range(chance.choice((1, 20, 100)))]
                batch = [(id, chance.choice(("app", "batch"))) for id in ids]
                again = chance.sample(last, len(last) // 3)
                last = batch
                with self._lock:
                    for id, source in batch:
                        self.sent[source].add(id)
                events = [event(id, source=source) for id, source in [*batch, *again]]
                try:
                    response = client.post(self._url, json=events)
                except httpx.TransportError:
                    return
                assert response.status_code == 204, response.text
                with self._lock:
                    for id, source in batch:
                        self.taken[source].add(id)

    def wait_for(self, count):
        """Until so many events were taken."""
        while sum(map(len, self.taken.values())) < count:
            assert any(thread.is_alive() for thread in self._threads)
            time.sleep(0.005)

    def join(self):
        """Until all have noticed that nobody is there."""
        for thread in self._threads:
            thread.join(60)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_killed_server_has_all_that_it_has_answered(serve, recorded, workers):
    """Under load, at random moments, several times in one home: each event is in the ledger once."""
    chance = random.Random(workers)
    sent = {"app": set(), "batch": set()}
    taken = {"app": set(), "batch": set()}
    for number in range(3):
        server = serve("--workers", workers)
        load = Load(server.url, number)
        load.wait_for(chance.randrange(1000, 6000))
        for pid in server.workers:
            os.kill(pid, signal.SIGKILL)
        server.kill()
        load.join()
        for source in sent:
            sent[source] |= load.sent[source]
            taken[source] |= load.taken[source]
    last = serve()
    assert httpx.get(last.url + "/readyz").status_code == 200
    assert last.stop() == 0

    for source, all_sent in sent.items():
        found = set(recorded(source))
        assert taken[source] <= found <= all_sent


def test_workers_end_with_the_process_that_minds_them(serve, recorded):
    """Where that is killed, they stop as if somebody had said so: none is left that nobody knows of."""
    server = serve("--workers", "2")
    assert httpx.post(server.url + EVENTS, json=event()).status_code == 204
    assert len(server.workers) >= 2

    assert (
        server.kill() == -signal.SIGKILL
    )  # which reads what they say, until the last one has ended

    assert set(recorded()) == {"1"}


def test_it_listens_to_others_only_with_keys(home, serve, keys):
    """Who opens a port to a network has to have made a key."""
    said = refused(home, "--host", "0.0.0.0", "--port", "0")
    assert "no API key" in said
    assert "keys create" in said

    _, key = keys.create("first", ["ingest"])
    server = serve("--host", "0.0.0.0")
    url = f"http://127.0.0.1:{server.address[1]}{EVENTS}"
    assert httpx.post(url, json=event()).status_code == 401
    assert httpx.post(url, json=event(), headers=bearer(key)).status_code == 204
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.7", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_what_only_this_machine_reaches(host, is_ours):
    """A name that others may give to another address is none of it."""
    assert is_loopback(host) is is_ours


def test_what_keeps_it_from_starting_is_said_in_a_line(home, tmp_path):
    """And ends with 2, as a wrong option does."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = refused(home, "--port", str(taken.getsockname()[1]))
        assert "cannot listen on 127.0.0.1" in said
        assert "Traceback" not in said
    assert "go together" in refused(home, "--port", "0", "--tls-key", str(tmp_path / "key.pem"))


def test_it_speaks_https(home, serve, tmp_path):
    """With a certificate, where nothing stands before it."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    server = serve("--tls-certificate", str(certificate), "--tls-key", str(key))

    trusting = ssl.create_default_context(cafile=str(certificate))
    response = httpx.post(server.url + EVENTS, json=event(), verify=trusting)

    assert server.url.startswith("https://")
    assert response.status_code == 204
    assert server.stop() == 0


@pytest.fixture
def impatient(home, monkeypatch):
    """The address of a server in this process that waits for a quarter of a second."""
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT", 0.25)
    with Meter(home, (), source="server") as meter:
        app = create_app(meter, ServerOptions(keys_required=False, body_timeout=0.25))
        listening = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(app, http=protocol.TimedProtocol, log_config=None, access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=[[listening]])
        thread.start()
        yield listening.getsockname()
        server.should_exit = True
        thread.join()
        listening.close()


def test_an_error_of_ours_quotes_nobody_in_the_log(impatient, monkeypatch, caplog):
    """It says where it was, for who mends it; its message may be what was sent."""

    def fail(*_):
        raise ValueError(event()["subject"])

    monkeypatch.setattr(Intake, "take", fail)
    host, port = impatient

    response = httpx.post(f"http://{host}:{port}{EVENTS}", json=event())

    assert response.status_code == 500
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["instance"].removeprefix("urn:request:") in caplog.text
    assert "in fail" in caplog.text
    assert "ValueError" in caplog.text
    assert "acme" not in caplog.text


def what_comes(connection):
    """All that the other side sends until it closes."""
    connection.settimeout(20)
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            received += piece
    return received


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(b"", id="says nothing"),
        pytest.param(b"POST /api/v1/events HTTP/1.1\r\nHost: local", id="half a head"),
        pytest.param(
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /he", id="a second half"
        ),
    ],
)
def test_who_does_not_come_to_the_point_is_left(impatient, first):
    """A thousand such connections would be all there are."""
    with socket.create_connection(impatient) as slow:
        slow.sendall(first)
        received = what_comes(slow)

    assert received.startswith(b"HTTP/1.1 200" if b"\r\n\r\n" in first else b"")
    assert received.count(b"HTTP/1.1 ") == first.count(b"\r\n\r\n")


def test_a_byte_now_and_then_is_no_head(impatient):
    """However long it goes on."""
    with socket.create_connection(impatient) as slow, contextlib.suppress(ConnectionError):
        for byte in b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 2000:
            slow.send(bytes([byte]))
            time.sleep(0.01)
        pytest.fail("it was listened to for 20 seconds")


def test_a_body_that_comes_by_drops_is_refused(impatient, recorded):
    """While others are served."""
    body = json.dumps(event()).encode()
    head = (
        f"POST {EVENTS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(impatient) as slow:
        slow.sendall(head.encode() + body[:10])
        host, port = impatient
        assert httpx.get(f"http://{host}:{port}/healthz").status_code == 200
        received = what_comes(slow)

    assert received.startswith(b"HTTP/1.1 408 ")
    assert recorded() == {}


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(
            b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000, id="a long header"
        ),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX\x00: y\r\n\r\n", id="NUL in a name"),
        pytest.param(b"GET /healthz\r\n\r\n", id="no version"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01", id="TLS where there is none"),
        pytest.param(
            b"POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n",
            id="two lengths of one body",
        ),
    ],
)
def test_what_is_no_http_is_answered_with_400_at_most(impatient, head):
    """No request is smuggled in behind another one."""
    with socket.create_connection(impatient) as odd:
        odd.sendall(head)
        received = what_comes(odd)

    assert b" 2" not in received.split(b"\r\n")[0]
    assert received.count(b"HTTP/1.1 ") <= 1


def test_refusals_of_a_real_server_are_in_the_audit_log(serve, home, keys):
    """With the address they came from."""
    keys.create("any", ["admin"])
    server = serve()
    assert httpx.get(server.url + "/metrics").status_code == 401
    server.stop()

    (line,) = audit(home)
    assert (line["client"], line["path"], line["reason"]) == ("127.0.0.1", "/metrics", "no key")
