"""A topic is read into a ledger: each event once, whatever becomes of topic, brokers and ledger."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from llm_metering.errors import IngestError
from llm_metering.events import encode
from llm_metering.ingest import TopicReader
from llm_metering.ingest.seen import BrokerError
from llm_metering.ledger import _files
from llm_metering.ledger.intake import Intake
from llm_metering.ledger.intake_values import Taken
from tests.factories import make_event
from tests.kafka_brokers import MockBrokers

from .conftest import PATIENCE, QUICK, Run
from .topics import ids, producer, send, send_raw


def make_events(count):
    return [make_event(subject=f"customer-{number % 5}") for number in range(count)]


def ids_of(*events):
    return sorted(each.id for some in events for each in some)


def delete_records(broker, topic, before, partition=0):
    """Have the broker delete what a partition has before an offset."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    [done] = admin.delete_records([TopicPartition(topic, partition, before)]).values()
    done.result(PATIENCE)


def make_anew(broker, topic, partitions=1):
    """Delete a topic, and make one of the same name."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.delete_topics([topic])[topic].result(PATIENCE)
    broker.create(topic, partitions)


def omissions(home):
    """Kind, offsets and count of what was passed over, the first first."""
    with closing(Intake(home / "ledger.db")) as intake:
        found = [each for _, _, _, each, _ in intake.omissions(99)]
    return [(each.kind, each.first, each.end, each.records) for each in reversed(found)]


def test_each_event_is_taken_once(mock, home, topic, ingest):
    """In either mode, among records that are no events; a second run finds nothing new."""
    mock.create(topic, 3)
    events = make_events(200)
    send(mock, topic, [*events, *events[:50]])
    for value in (b"garbage", None, b'{"not":"usage"}'):
        send_raw(mock, topic, value)
    binary = {"specversion": "1.0", "id": "by-headers", "source": "/elsewhere", "type": "llm.usage"}
    binary |= {"subject": "customer-1", "time": "2026-11-21T12:00:00Z"}
    headers = [(f"ce_{name}", text.encode()) for name, text in binary.items()]
    send_raw(mock, topic, json.dumps({"calls": 1, "total_tokens": 5}).encode(), headers, 2)

    _, first = ingest(mock.url(topic))
    _, second = ingest(mock.url(topic))

    assert first.taken == Taken(new=201, repeated=50, refused=3)
    assert (first.is_complete, first.behind) == (True, 0)
    assert (second.taken, second.is_complete) == (Taken(), True)
    assert ids(home) == sorted([*ids_of(events), "by-headers"])
    assert [kind for kind, *_ in omissions(home)] == ["refused"] * 3


def test_what_a_transaction_took_back_is_not_read(broker, home, topic, ingest):
    """And its marks are no records that are still to come."""
    broker.create(topic, 1)
    kept, aborted = make_events(3), make_events(2)
    to = producer(broker.bootstrap, **{"transactional.id": topic})
    to.init_transactions(PATIENCE)
    for events, end in ((aborted, to.abort_transaction), (kept, to.commit_transaction)):
        to.begin_transaction()
        for event in events:
            to.produce(topic, encode(event), partition=0)
        to.flush(PATIENCE)
        end(PATIENCE)

    _, progress = ingest(broker.url(topic))

    assert ids(home) == ids_of(kept)
    assert (progress.taken, progress.is_complete) == (Taken(new=3), True)


def test_an_empty_topic_is_read_to_its_end(mock, topic, ingest):
    """There is nothing to wait for."""
    mock.create(topic, 2)

    _, progress = ingest(mock.url(topic))

    assert progress.is_complete
    assert [each.next_offset for each in progress.partitions] == [0, 0]


def test_what_was_deleted_unread_is_said_and_kept(broker, home, topic, ingest):
    """What is there is taken; the rest is counted as lost, once."""
    broker.create(topic, 1)
    first, unread, last = make_events(10), make_events(5), make_events(5)
    send(broker, topic, first)
    ingest(broker.url(topic))
    send(broker, topic, [*unread, *last])
    delete_records(broker, topic, 15)

    run, progress = ingest(broker.url(topic))
    _, again = ingest(broker.url(topic))

    assert ids(home) == ids_of(first, last)
    assert progress.taken == Taken(new=5, lost=5)
    assert run.said(f"LOST: 5 records at most of partition 0 of {topic} (offsets 10 to 14)")
    assert omissions(home) == [("lost", 10, 15, 5)]
    assert again.taken == Taken()


def test_what_was_deleted_before_the_first_run_is_not_lost(broker, home, topic, ingest):
    """A topic that is older than its retention is nothing to be alarmed about."""
    broker.create(topic, 1)
    old, young = make_events(4), make_events(4)
    send(broker, topic, [*old, *young])
    delete_records(broker, topic, 4)

    _, progress = ingest(broker.url(topic))

    assert progress.taken == Taken(new=4)
    assert ids(home) == ids_of(young)


def test_what_is_deleted_after_a_first_run_that_read_nothing_is_lost(broker, home, topic, ingest):
    """A reader that died before its first record had the right to all of them."""
    broker.create(topic, 1)
    unread, last = make_events(4), make_events(4)
    send(broker, topic, [*unread, *last])

    class Dying(TopicReader):
        def read(self, *, stop, **_):
            stop.set()
            return iter(())

    ingest("", reader=Dying(broker.url(topic), {}))
    delete_records(broker, topic, 4)
    _, progress = ingest(broker.url(topic))

    assert progress.taken == Taken(new=4, lost=4)
    assert ids(home) == ids_of(last)


def test_what_is_deleted_while_it_is_asked_for_is_lost(broker, home, topic, ingest):
    """The brokers say that the offset is not there, and the positions are looked at again."""
    broker.create(topic, 1)
    unread, last = make_events(5), make_events(5)
    ingest(broker.url(topic))
    send(broker, topic, [*unread, *last])

    class Racing(TopicReader):
        is_late = False

        def watermarks(self, partition):
            marks = super().watermarks(partition)
            if not self.is_late:
                self.is_late = True
                delete_records(broker, topic, 5)
            return marks

    _, progress = ingest("", reader=Racing(broker.url(topic), {}))

    assert progress.taken == Taken(new=5, lost=5)
    assert ids(home) == ids_of(last)


@pytest.mark.parametrize("count", [3, 10, 30], ids=["shorter", "as long", "longer"])
def test_a_topic_that_was_made_anew_is_read_from_its_beginning(broker, home, topic, count, ingest):
    """Also where it has a record at the position already: the last one read is not the same."""
    broker.create(topic, 1)
    old, new = make_events(10), make_events(count)
    send(broker, topic, old)
    ingest(broker.url(topic))
    make_anew(broker, topic)
    send(broker, topic, [*old[:2], *new])

    run, progress = ingest(broker.url(topic))

    assert ids(home) == ids_of(old, new)
    assert progress.taken == Taken(new=count, repeated=2)
    assert (progress.anew, progress.is_complete) == (1, True)
    assert run.said("made anew")
    assert omissions(home) == [("anew", 10, None, None)]


def test_a_topic_that_is_made_anew_while_it_is_read(broker, home, topic):
    """The brokers say that it has no such offset, and it is read from its beginning."""
    broker.create(topic, 1)
    old, new = make_events(10), make_events(30)
    send(broker, topic, old)

    with Run(home, broker.url(topic, QUICK)) as run:
        run.wait(lambda now: now.taken.new == 10)
        make_anew(broker, topic)
        run.wait(lambda now: now.anew == 1)
        send(broker, topic, new)
        run.wait(lambda now: now.taken.new == 40)

    assert ids(home) == ids_of(old, new)
    assert run.said("made anew")


def test_new_partitions_are_found(broker, home, topic):
    """Without a restart, from their beginning on."""
    broker.create(topic, 1)
    before, after = make_events(5), make_events(5)
    send(broker, topic, before)

    with Run(home, broker.url(topic), look_for_partitions=0.1) as run:
        run.wait(lambda now: now.taken.new == 5)
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        admin.create_partitions([NewPartitions(topic, 3)])[topic].result(PATIENCE)
        send(broker, topic, after, partition=2)
        run.wait(lambda now: now.taken.new == 10)

    assert ids(home) == ids_of(before, after)


def test_it_waits_for_brokers_that_went_away(home, topic):
    """It says so once, and that they are back, and goes on."""
    with MockBrokers() as brokers:
        brokers.create(topic, 2)
        before, after = make_events(5), make_events(5)
        send(brokers, topic, before)
        with Run(home, brokers.url(topic, QUICK)) as run:
            run.wait(lambda now: now.taken.new == 5)
            brokers.down()
            run.wait(lambda now: now.trouble is not None)
            brokers.up()
            send(brokers, topic, after)
            run.wait(lambda now: now.taken.new == 10 and now.trouble is None)

        assert ids(home) == ids_of(before, after)
        assert sum("waiting for the brokers" in line for line in run.lines) == 1
        assert run.said("the brokers answer again")


def test_it_waits_for_a_ledger_that_is_locked(mock, home, topic, monkeypatch):
    """What it has read stays in hand meanwhile."""
    monkeypatch.setattr(_files, "BUSY_TIMEOUT", 0.01)
    mock.create(topic, 1)
    with Run(home, mock.url(topic)) as run:
        run.wait(lambda now: now.partitions and now.partitions[0].next_offset == 0)
        with closing(sqlite3.connect(home / "ledger.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            events = make_events(10)
            send(mock, topic, events)
            run.wait(lambda now: "locked" in (now.trouble or ""))
        run.wait(lambda now: now.taken.new == 10 and now.trouble is None)

    assert ids(home) == ids_of(events)
    assert run.said("waiting for the ledger: another process keeps the ledger locked")
    assert run.said("the ledger takes events again")


def test_who_is_stopped_while_the_ledger_is_locked_leaves_it_to_the_next(
    mock, home, topic, ingest, monkeypatch
):
    """The position has not moved, so that nothing is missing."""
    monkeypatch.setattr(_files, "BUSY_TIMEOUT", 0.01)
    mock.create(topic, 1)
    ingest(mock.url(topic))
    events = make_events(10)
    send(mock, topic, events)
    with closing(sqlite3.connect(home / "ledger.db", isolation_level=None)) as other:
        # Not while it looks up the positions, which it does with the right to write, too.
        with Run(home, mock.url(topic)) as run:
            run.wait(lambda now: now.partitions and now.trouble is None)
            other.execute("BEGIN IMMEDIATE")
            send(mock, topic, events)
            run.wait(lambda now: "locked" in (now.trouble or ""))
        other.execute("ROLLBACK")

    _, progress = ingest(mock.url(topic))

    assert progress.is_complete
    assert ids(home) == ids_of(events)


def test_two_that_read_into_one_ledger_lose_and_double_nothing(mock, home, topic, tmp_path):
    """Even without the lock that keeps them apart: who comes late reads again from where it is."""
    mock.create(topic, 2)
    events = make_events(500)
    with (
        Run(home, mock.url(topic)) as one,
        Run(home, mock.url(topic), lock_home=tmp_path) as other,
    ):
        for start in range(0, 500, 50):
            send(mock, topic, events[start : start + 50])
        for each in (one, other):
            each.wait(lambda now: sum(each.next_offset or 0 for each in now.partitions) == 500)

    assert one.last.taken + other.last.taken == Taken(new=500)
    assert ids(home) == ids_of(events)
    with closing(Intake(home / "ledger.db")) as intake:
        assert sum((each.taken for each in intake.books()), Taken()) == Taken(new=500)


def test_one_at_a_time(mock, home, topic):
    """The second is told who reads the topic, and may read another."""
    mock.create(topic, 1)
    mock.create(f"{topic}-2", 1)
    with Run(home, mock.url(topic)) as run:
        run.wait(lambda now: now.partitions)
        with pytest.raises(IngestError, match=r"process \d+ on .+ has read this topic since"):
            Run(home, mock.url(topic)).to_the_end()
        assert Run(home, mock.url(f"{topic}-2"), until_end=True).to_the_end().is_complete


def test_those_who_watch_lag_see_the_positions(mock, home, topic, ingest):
    """As the offsets of the group that the URL names; nobody reads them back."""
    mock.create(topic, 1)
    send(mock, topic, make_events(7))

    ingest(mock.url(topic, f"group={topic}"))

    reader = Consumer({"bootstrap.servers": mock.bootstrap, "group.id": topic, "log_level": 0})
    with closing(reader):
        [shown] = reader.committed([TopicPartition(topic, 0)], timeout=PATIENCE)
        assert shown.offset == 7
        reader.commit(offsets=[TopicPartition(topic, 0, 2)], asynchronous=False)
    _, again = ingest(mock.url(topic, f"group={topic}"))
    assert again.taken == Taken()


def test_a_topic_that_is_not_there_ends_it(mock, home, topic):
    """At the start, where somebody is there to read the name."""
    with pytest.raises(BrokerError, match=f"the topic {topic}: UNKNOWN_TOPIC_OR_PART"):
        Run(home, mock.url(topic)).to_the_end()


def test_brokers_of_another_cluster_end_it(mock, home, topic):
    """Its positions are others, and so is its lock: whoever starts it again begins with them."""
    mock.create(topic, 1)

    class Moving(TopicReader):
        def assign(self, offsets):
            super().assign(offsets)
            self.cluster = "the one before"

    run = Run(home, "", reader=Moving(mock.url(topic), {}), look_for_partitions=0.0)
    with pytest.raises(IngestError, match="another cluster"):
        run.to_the_end()
