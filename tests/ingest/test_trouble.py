"""What a person is told while something is away, and what does not end a reader."""

from __future__ import annotations

import resource

import pytest
from confluent_kafka.admin import AdminClient

from llm_metering.errors import IngestError
from llm_metering.ingest import Progress
from llm_metering.ingest.lock import alone
from tests.factories import make_event
from tests.forking import in_child
from tests.kafka_brokers import MockBrokers

from .conftest import QUICK, Run
from .topics import ids, send

PLACE = {"topic": "usage", "cluster": "cluster"}


def leaders(brokers, topic):
    """A partition of each broker, by the broker's id."""
    metadata = AdminClient({"bootstrap.servers": brokers.bootstrap}).list_topics(topic)
    return {each.leader: number for number, each in metadata.topics[topic].partitions.items()}


def test_one_of_two_brokers_is_away(home, topic):
    """What comes from the other does not pass for the end of it; and is taken."""
    with MockBrokers(2) as brokers:
        brokers.create(topic, 2)
        at = leaders(brokers, topic)
        events = [make_event() for _ in range(4)]
        with Run(home, brokers.url(topic, QUICK)) as run:
            run.wait(lambda now: len(now.partitions) == 2)
            brokers.down(2)
            run.wait(lambda now: now.trouble is not None)
            for number, event in enumerate(events[:3], 1):
                send(brokers, topic, [event], partition=at[1])
                run.wait(lambda now, number=number: now.taken.new == number and now.trouble)
            assert not run.said("the brokers answer again")
            brokers.up(2)
            send(brokers, topic, events[3:], partition=at[2])
            run.wait(lambda now: now.taken.new == 4 and now.trouble is None)

        assert run.said("the brokers answer again")
        assert ids(home) == sorted(event.id for event in events)


@pytest.mark.parametrize("away", [1, 2])
def test_who_is_stopped_while_a_broker_is_away_ends(home, topic, away):
    """Also where it is the one that keeps the group's offsets, which may be either of them."""
    with MockBrokers(2) as brokers:
        brokers.create(topic, 2)
        at = leaders(brokers, topic)
        with Run(home, brokers.url(topic, QUICK)) as run:
            run.wait(lambda now: len(now.partitions) == 2)
            brokers.down(away)
            send(brokers, topic, [make_event()], partition=at[3 - away])
            run.wait(lambda now: now.taken.new == 1)

    assert len(ids(home)) == 1


def test_a_ledger_that_is_removed_is_filled_again(mock, home, topic):
    """With all that the topic has; and whoever reads what is said looks for the right thing."""
    mock.create(topic, 1)
    events = [make_event() for _ in range(6)]
    send(mock, topic, events[:5])
    with Run(home, mock.url(topic)) as run:
        run.wait(lambda now: now.taken.new == 5)
        for each in home.glob("ledger.db*"):
            each.unlink()
        send(mock, topic, events[5:])
        run.wait(lambda now: now.taken.new == 11)

    assert ids(home) == sorted(event.id for event in events)
    assert run.said(f"it knows nothing of partition 0 of {topic} any more; was its file removed?")


def test_who_cannot_say_who_it_is_reads_all_the_same(home):
    """A full disk is waited for by whoever writes the ledger; the lock needs no space."""

    def work():
        # Of the child alone: what the test run writes may be a file as well.
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        with (
            alone(home, **PLACE),
            pytest.raises(IngestError, match="another process reads this topic"),
            alone(home, **PLACE),
        ):
            pass
        with alone(home, **PLACE):
            return True

    assert in_child(work)


def test_nobody_knows_how_far_behind_it_is_before_it_has_looked():
    """That is not the same as to be up to date."""
    assert Progress().behind is None
