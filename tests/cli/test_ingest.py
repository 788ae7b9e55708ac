"""`llm-metering ingest` in processes of its own, as cron and systemd run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from llm_metering.cli.ingest import _until_told
from llm_metering.ledger.intake import Intake
from llm_metering.ledger.intake_values import Omission, Stretch
from tests.factories import make_event
from tests.ingest.topics import ids, send, send_raw
from tests.kafka_brokers import BrokerProcess, MockBrokers, free_port

from .operating import Site
from .test_cli import in_terminal


@pytest.fixture(scope="module")
def mock():
    with MockBrokers() as brokers:
        yield brokers


@pytest.fixture
def topic(request, mock):
    """A topic of this test's own."""
    name = "".join(each if each.isalnum() else "-" for each in request.node.name)
    mock.create(name, 2)
    return name


@pytest.fixture
def site(home):
    return Site(home)


@pytest.fixture
def running(site):
    """Start the command, which goes on until it is told to stop."""
    started = []

    def running(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "llm_metering", "ingest", *arguments],
            env={**os.environ, **site.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield running
    for process in started:
        with process:
            process.kill()


def wait_for_positions(home, offset):
    """Wait until so many records are in the ledger."""
    with closing(Intake(home / "ledger.db")) as intake:
        while sum(each.next_offset for each in intake.books()) < offset or not intake.books():
            time.sleep(0.02)


def test_until_end(site, home, mock, topic):
    """For programs: what became of each partition's records, and where the ledger is now."""
    events = [make_event() for _ in range(20)]
    send(mock, topic, events[:15], partition=0)
    # A repeat in its own partition: which of two partitions is read first is not known.
    send(mock, topic, [*events[15:], events[15]], partition=1)
    send_raw(mock, topic, b"hush", partition=1)

    report = site.ask("ingest", mock.url(topic), "--until-end")

    cluster = report.pop("cluster")
    assert report == {
        "home": str(home),
        "topic": mock.url(topic),
        "complete": True,
        "new": 20,
        "repeated": 1,
        "refused": 1,
        "lost": 0,
        "anew": 0,
        "lag": 0,
        "partitions": [
            {
                "partition": 0,
                "next_offset": 15,
                "lag": 0,
                "new": 15,
                "repeated": 0,
                "refused": 0,
                "lost": 0,
            },
            {
                "partition": 1,
                "next_offset": 7,
                "lag": 0,
                "new": 5,
                "repeated": 1,
                "refused": 1,
                "lost": 0,
            },
        ],
    }
    assert ids(home) == sorted(each.id for each in events)
    assert sum(row["value"] for row in site.ask("usage")["data"]) == 20 * 120
    shown = site.ask("ingest", "--show")
    assert [
        (each["cluster"], each["topic"], each["partition"], each["next_offset"], each["new"])
        for each in shown["partitions"]
    ] == [(cluster, topic, 0, 15, 15), (cluster, topic, 1, 7, 5)]
    [refused] = shown["omissions"]
    assert (refused["kind"], refused["first_offset"], refused["last_offset"]) == ("refused", 6, 6)
    assert "hush" not in json.dumps(shown)


def test_tables(site, mock, topic):
    """For people: the same, and where to look at what was refused."""
    send(mock, topic, [make_event()])
    send_raw(mock, topic, None)

    # The very URL of a sink, with properties that only a producer has.
    done = site.run("ingest", mock.url(topic, "name=main&compression.type=zstd"), "--until-end")
    shown = site.run("ingest", "--show")

    assert (done.returncode, done.stderr) == (0, "")
    assert "`llm-metering ingest --show` lists what was refused" in done.stdout
    assert "it has no value (a tombstone)" in shown.stdout


def test_a_list_that_is_cut_says_so(site, home, mock, topic):
    """Nobody takes the latest for all."""
    many = [
        Omission(kind="refused", first=2 * each, end=2 * each + 1, records=1, reason="no event")
        for each in range(1001)
    ]
    with closing(Intake(home / "ledger.db")) as intake:
        stretch = Stretch(partition=0, expected=None, next_offset=2001, omissions=many)
        intake.commit("cluster", topic, [stretch], now=datetime.now(UTC))

    shown = site.run("ingest", "--show").stdout

    assert "only the latest 1,000 stretches are listed" in shown
    assert len(site.ask("ingest", "--show")["omissions"]) == 1000


def test_a_terminal_shows_how_far_it_is(home, mock, topic):
    """In a line that is gone in the end."""
    send(mock, topic, [make_event() for _ in range(1200)])

    seen = in_terminal(home, "ingest", mock.url(topic), "--until-end")

    assert "1,200 new events, 0 repeated, 0 to come" in seen
    assert "to come" not in seen.splitlines()[-1]


def test_nothing_was_ever_read(site, home):
    """To look makes no home."""
    home.rmdir()

    assert site.ask("ingest", "--show") == {"home": str(home), "partitions": [], "omissions": []}
    assert "no topic was ever read" in site.run("ingest", "--show").stdout
    assert not home.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_is_told_to_stop_finishes(home, mock, topic, running, number):
    """It says what it has taken, and that is in the ledger; the exit code is 0."""
    process = running(mock.url(topic), "--home", str(home), "--format", "json")
    send(mock, topic, [make_event() for _ in range(50)])
    wait_for_positions(home, 50)
    process.send_signal(number)

    report = json.loads(process.communicate()[0])

    assert process.returncode == 0
    assert (report["new"], report["lag"], len(ids(home))) == (50, 0, 50)


def test_a_second_one_is_told_who_reads(site, home, mock, topic, running):
    """And ends; when the first one is killed, the next may."""
    first = running(mock.url(topic), "--home", str(home))
    wait_for_positions(home, 0)

    error = site.refused("ingest", mock.url(topic), "--until-end")
    first.kill()
    first.wait()

    assert error.startswith(f"llm-metering: process {first.pid} on ")
    assert site.ask("ingest", mock.url(topic), "--until-end")["complete"]


def test_what_was_deleted_unread_is_said_by_the_exit_code(site, tmp_path):
    """And on the standard error at once, for whoever reads the journal of the service."""
    with BrokerProcess(tmp_path / "broker") as broker:
        broker.create("usage", 1)
        send(broker, "usage", [make_event()])
        site.ask("ingest", broker.url("usage"), "--until-end")
        send(broker, "usage", [make_event() for _ in range(3)])
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        [deleted] = admin.delete_records([TopicPartition("usage", 0, 3)]).values()
        deleted.result(20)

        done = site.run("ingest", broker.url("usage"), "--until-end", "--format", "json")

    report = json.loads(done.stdout)
    assert (done.returncode, report["lost"], report["new"]) == (3, 2, 1)
    assert done.stderr.startswith("llm-metering: LOST: 2 records at most of partition 0 of usage")


def test_it_waits_for_brokers_that_are_not_there(home, running):
    """However long; it says so, and ends when it is told to."""
    process = running(f"kafka://127.0.0.1:{free_port()}/usage", "--home", str(home))

    line = process.stderr.readline()
    process.terminate()
    process.communicate()

    assert line.startswith("llm-metering: waiting for the brokers: ")
    assert process.returncode == 0


def test_who_is_stopped_before_the_end_says_so(home, running):
    """To whoever bills when it is through: by the exit code too, and it invents no lag of 0."""
    url = f"kafka://127.0.0.1:{free_port()}/usage"
    process = running(url, "--home", str(home), "--until-end", "--format", "json")

    process.stderr.readline()
    process.terminate()
    out, error = process.communicate()

    report = json.loads(out)
    assert (process.returncode, report["complete"], report["lag"]) == (3, False, None)
    assert error == "llm-metering: stopped before the end: the rest was not taken in\n"


def test_a_signal_never_waits_for_what_it_interrupts():
    """The lock of the event that it sets may be held where it comes, or by the signal before."""
    with _until_told() as stop:
        with stop._cond:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.raise_signal(number)

        assert stop.wait(20)


def test_a_wrong_password_ends_it(site, mock, topic):
    """At the start, with one line in which the password is not."""
    query = "security.protocol=sasl_plaintext&sasl.mechanism=PLAIN"
    secrets = {"LLM_METERING_KAFKA_USERNAME": "me", "LLM_METERING_KAFKA_PASSWORD": "sesame"}

    error = site.refused("ingest", mock.url(topic, query), "--until-end", **secrets)

    assert "SASL" in error
    assert "sesame" not in error


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        pytest.param([], "a topic is wanted", id="no topic"),
        pytest.param(["http://127.0.0.1/usage"], "a topic is wanted", id="no kafka"),
        pytest.param(["kafka://127.0.0.1:1/"], "needs a topic", id="an empty one"),
        pytest.param(["kafka://me:hush@127.0.0.1:1/usage"], "takes no user", id="a password"),
        pytest.param(
            ["kafka://127.0.0.1:1/usage?auto.offset.reset=latest"], "cannot be set", id="a promise"
        ),
        pytest.param(
            ["kafka://127.0.0.1:1/usage?group.id=mine"], "cannot be set", id="the group by property"
        ),
        pytest.param(
            ["kafka://127.0.0.1:1/usage?not.there=1"], "refuses a property", id="no such property"
        ),
    ],
)
def test_what_cannot_be_read_is_refused(site, arguments, reason):
    """With one line, in which no secret is."""
    error = site.refused("ingest", *arguments)

    assert reason in error
    assert "hush" not in error


def test_a_home_without_a_ledger_takes_nothing(site):
    """The setting is named."""
    error = site.refused("ingest", "kafka://127.0.0.1:1/usage", LLM_METERING_LEDGER="off")

    assert "the ledger is switched off" in error


def test_a_missing_package_is_named(site):
    """With the command that installs it."""
    code = (
        "import sys; sys.modules['confluent_kafka'] = None; "
        "from llm_metering.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "ingest", "kafka://127.0.0.1:1/usage"],
        env=site.environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "pip install 'llm-metering[kafka]'" in done.stderr
