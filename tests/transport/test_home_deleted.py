"""A home that is deleted under a living process: said aloud, and made anew with all that is at hand."""

from __future__ import annotations

import logging
import shutil
import time

import pytest

from llm_metering.transport.recovery import settle_writer
from llm_metering.transport.spool import Spool

from .harness import (
    ScriptedSink,
    empty,
    journal_for,
    let_go,
    note_open,
    pump,
    record,
    shipper_for,
    unique,
)


@pytest.mark.parametrize("shipped", [False, True], ids=["not yet shipped", "while being shipped"])
def test_a_deleted_home_loses_nothing_of_a_living_process(home, caplog, shipped):
    """Within a second all its present segment held is on disk again, and it is still alive."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink)
    before = [note_open(journal), *record(journal, 2)]
    if shipped:
        pump(shipper)
    shutil.rmtree(home)
    with caplog.at_level(logging.ERROR, logger="llm_metering"):
        unseen = record(journal, 2)
        while not Spool(home).segments():
            time.sleep(0.01)
        while "deleted the home" not in caplog.text:
            time.sleep(0.01)
    later = record(journal, 2)

    assert not settle_writer(Spool(home), journal.writer)
    empty(shipper)
    assert unique(sink.taken) == {*before[1:], *unseen, *later}
    let_go(journal, shipper)
    empty(shipper_for(journal_for(home, sink), sink), adopt=True)
    # Its acknowledgements were deleted too: some are sent again, under the same ids.
    assert set(sink.taken) == {*before, *unseen, *later}
    assert Spool(home).segments() == []
