"""When a sink was given what is in no segment any more, as far as the files of a home say."""

from __future__ import annotations

import os

import pytest

from llm_metering.event_ids import keyed_event_id, minted_at, new_event_id
from llm_metering.reconcile.given import GivenAway
from llm_metering.transport.spool import SegmentName, Spool

HOUR = 3600.0


@pytest.fixture
def spool(tmp_path):
    """The journals of a home."""
    spool = Spool(tmp_path)
    spool.make()
    return spool


def fold(spool, moment):
    """Have counted what left the journal, at a moment."""
    path = spool.folder / "counters.json"
    path.touch()
    os.utime(path, (moment, moment))


def keep(spool, moment):
    """Have kept a segment, at a moment."""
    spool.kept_folder.mkdir(exist_ok=True)
    path = spool.kept_path(SegmentName(new_event_id(), 0))
    path.touch()
    os.utime(path, (moment, moment))


def test_the_oldest_go_first(spool):
    """What was recorded before the oldest kept segment was kept went before it."""
    event = new_event_id()
    recorded = minted_at(event)
    fold(spool, recorded + 9 * HOUR)
    keep(spool, recorded + 2 * HOUR)
    keep(spool, recorded + 1 * HOUR)

    given = GivenAway(spool, has_others=False)

    assert given.by(event) == recorded + 1 * HOUR
    assert given.by(keyed_event_id("shop", "1")) == recorded + 1 * HOUR


def test_another_process_keeps_less(spool):
    """What was recorded after that is gone by another way: at the last folding at the latest."""
    event = new_event_id()
    recorded = minted_at(event)
    fold(spool, recorded + 1)
    keep(spool, recorded - 70 * HOUR)

    assert GivenAway(spool, has_others=False).by(event) == recorded + 1


def test_nothing_is_kept(spool):
    """Then it is the last folding, too, however long segments would be kept by whoever looks."""
    event = new_event_id()
    fold(spool, minted_at(event) + 1)

    assert GivenAway(spool, has_others=False).by(event) == minted_at(event) + 1


def test_it_was_never_here(spool):
    """What was recorded after anything was folded, or where nothing ever was, is not known."""
    event = new_event_id()
    assert GivenAway(spool, has_others=False).by(event) is None
    fold(spool, minted_at(event) - 1)
    assert GivenAway(spool, has_others=False).by(event) is None


def test_a_ledger_that_others_fill(spool):
    """Their homes know what they delivered; this one does not."""
    event = new_event_id()
    fold(spool, minted_at(event) + 1)
    keep(spool, minted_at(event) + 1)

    assert GivenAway(spool, has_others=True).by(event) is None
