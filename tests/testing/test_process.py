"""The fake server in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from tests.testing.conftest import BATCH
from tests.testing.wire_events import wire_events

TIMEOUT = 30


class Process:
    """`python -m llm_metering.testing.server`, with what it printed first."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "llm_metering.testing.server", *arguments]
        self.child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.url = self.child.stdout.readline().strip()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; the status and what was written to stderr."""
        self.child.send_signal(number)
        _, errors = self.child.communicate(timeout=TIMEOUT)
        return self.child.returncode, errors


@pytest.fixture
def process() -> Iterator[Process]:
    """A server that is killed if the test does not end it."""
    process = Process()
    yield process
    process.end(signal.SIGKILL)


def post(url: str, *ids: str, **headers: str) -> int:
    """Post events; the status."""
    headers["Content-Type"] = BATCH
    return httpx.post(
        f"{url}/api/v1/events", json=wire_events(*ids), headers=headers, trust_env=False
    ).status_code


def test_it_prints_its_address_and_shows_what_it_counted(process):
    """The state is there for those who have no other way in, and not among the requests."""
    assert post(process.url, "1", "2") == 204
    assert post(process.url, "1") == 204
    assert httpx.post(f"{process.url}/elsewhere", trust_env=False).status_code == 404

    state = httpx.get(f"{process.url}/testing/state", trust_env=False).json()

    assert state["events"] == wire_events("1", "2")
    assert [(each["status"], each["ids"]) for each in state["received"]] == [
        (204, ["1", "2"]),
        (204, ["1"]),
        (404, []),
    ]
    assert state["violations"] == ["no such path: POST /elsewhere"]
    assert state["hanging"] == 0


def test_faults_are_ordered_over_http(process):
    """As in the process itself, and forgotten in the same way."""
    orders = f"{process.url}/testing/orders"
    document = {"faults": [{"fault": "Refuse", "status": 503}], "times": None}
    with httpx.Client(trust_env=False) as client:
        assert client.post(orders, json=document).status_code == 200
        assert [post(process.url), post(process.url)] == [503, 503]
        assert client.delete(orders).status_code == 200
        assert client.post(f"{process.url}/testing/release").json() == {"released": 0}

    assert post(process.url) == 204


@pytest.mark.parametrize(
    ("method", "path", "document", "status"),
    [
        pytest.param("POST", "orders", {"faults": []}, 400, id="no fault"),
        pytest.param("POST", "orders", {"faults": [{"fault": "Fire"}]}, 400, id="unknown fault"),
        pytest.param("POST", "orders", {"fault": "Reset"}, 400, id="unknown key"),
        pytest.param("POST", "orders", [], 400, id="no object"),
        pytest.param("POST", "state", {}, 404, id="wrong method"),
        pytest.param("GET", "", {}, 404, id="nothing"),
    ],
)
def test_orders_that_cannot_be_read_are_refused(process, method, path, document, status):
    """With a reason."""
    answer = httpx.request(method, f"{process.url}/testing/{path}", json=document, trust_env=False)

    assert answer.status_code == status
    assert answer.json()["detail"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_it_ends_when_it_is_told_to(number):
    """Without a word."""
    assert Process().end(number) == (0, "")


def test_a_killed_server_comes_back(tmp_path):
    """On the same port, and with what was in its file."""
    file = str(tmp_path / "counted.jsonl")
    first = Process("--file", file, "--token", "om_key")
    assert post(first.url, "1", Authorization="Bearer om_key") == 204
    assert post(first.url, "2") == 401
    first.end(signal.SIGKILL)

    port = first.url.rpartition(":")[2]
    second = Process("--file", file, "--port", port, "--no-dedupe")
    post(second.url, "1")
    state = httpx.get(f"{second.url}/testing/state", trust_env=False).json()
    second.end()

    assert second.url == first.url
    assert state["events"] == wire_events("1", "1")


def test_it_takes_meters_customers_and_cursors(tmp_path):
    """And events as they are: what a program in another language asks for is planted there."""
    meters = tmp_path / "meters.json"
    meters.write_text('[{"slug": "calls", "eventType": "llm.usage", "aggregation": "COUNT"}]')
    process = Process("--meters", str(meters), "--customer", "customer-42", "--cursors", "id")
    with httpx.Client(base_url=process.url, trust_env=False) as client:
        planted = client.post("/testing/events", json=wire_events("1", "2", "2")).json()
        refused = client.post("/testing/events", json=[{"id": "3"}]).status_code
        page = client.get("/api/v2/events", params={"limit": 2}).json()
        rest = client.get("/api/v2/events", params={"cursor": page["nextCursor"]}).json()
        [row] = client.get("/api/v1/meters/calls/query").json()["data"]
    process.end()

    assert (planted, refused, row["value"]) == ({"stored": 3}, 400, 3)
    assert [item["event"]["id"] for item in page["items"] + rest["items"]] == ["2", "2", "1"]
    assert "validationError" not in page["items"][0]


def test_what_is_held_back_or_known_is_in_reach(process):
    """Lagging events, claims and ids, by HTTP as in Python."""
    with httpx.Client(base_url=process.url, trust_env=False) as client:
        for fault in ({"fault": "Lag", "id": "1"}, {"fault": "ClaimBeforeWrite", "id": ["2"]}):
            client.post("/testing/orders", json={"faults": [fault]})
        statuses = [post(process.url, "1"), post(process.url, "2"), post(process.url, "2")]
        answers = [
            client.post("/testing/catch-up").json(),
            client.delete("/testing/claims").json(),
        ]
        post(process.url, "1", "2")
        client.delete("/testing/ids")
        post(process.url, "1")
        events = client.get("/testing/state").json()["events"]

    assert statuses == [204, 500, 204]
    assert answers == [{"stored": 1}, {"forgotten": 1}]
    assert [event["id"] for event in events] == ["1", "2", "1"]
