"""A meter for tests, and how it takes the default's place."""

from __future__ import annotations

from contextlib import closing

import pytest

import llm_metering
from llm_metering import Meter, TokenUsage, default_meter
from llm_metering.testing import OpenMeterServer, RecordedMeter, as_default
from tests import metering

USAGE = TokenUsage(input_tokens=100, output_tokens=20)


@pytest.fixture(autouse=True)
def no_default():
    """What other tests made the default is none of our business, nor ours of theirs."""
    llm_metering.close()
    yield
    llm_metering.uninstall()
    llm_metering.close()


def test_events_are_what_was_recorded(home):
    """In order, and without a flush; a call in flight is not among them."""
    with RecordedMeter(home) as meter:
        assert meter.events == []
        first = meter.record(USAGE, "customer-42")
        second = meter.record(quantity=3, unit="images", subject="acme")
        metering.start(meter)

        events = meter.events
        assert [(each.id, each.subject) for each in events] == [
            (first.id, "customer-42"),
            (second.id, "acme"),
        ]
        assert events[0].data["total_tokens"] == 120
        assert events[0].source == "tests"


def test_events_outlive_the_meter(home):
    """The call that was in flight at the end is among them then."""
    with RecordedMeter(home) as meter:
        meter.record(USAGE, "customer-42")
        metering.start(meter)

    assert [each.data["status"] for each in meter.events] == ["completed", "aborted"]


def test_text_that_is_counted_is_waited_for(home):
    """What a provider did not report is counted off the thread, and in the events all the same."""
    answer = {
        "object": "chat.completion",
        "model": "gpt-5-mini",
        "choices": [{"message": {"role": "assistant", "content": "two words"}}],
    }
    with RecordedMeter(home) as meter:
        meter.record(answer, "customer-42")

        [event] = meter.events

    assert event.data["provenance"] == "estimated"


def test_the_ledger_answers_too(home):
    """It is a meter like any other."""
    with RecordedMeter(home) as meter:
        meter.record(USAGE, "customer-42")

        assert meter.usage(subject="customer-42").rows[0].value == 120


def test_sinks_of_the_environment_get_nothing(home, monkeypatch):
    """A test run sends no bill, wherever the developer's settings point."""
    with OpenMeterServer() as server:
        monkeypatch.setenv("LLM_METERING_SINKS", server.sink_url)
        with RecordedMeter(home) as meter:
            meter.record(USAGE, "customer-42")

        assert server.received == []


@pytest.mark.parametrize("as_text", [True, False], ids=["URL", "list"])
def test_a_sink_that_is_down_holds_up_no_test(home, as_text):
    """Events are there though the other sink takes none."""
    with OpenMeterServer() as server:
        server.down()
        sinks = server.sink_url if as_text else [server.sink_url]
        meter = RecordedMeter(home, sinks)
        meter.record(USAGE, "customer-42")

        assert len(meter.events) == 1
        pending = {row["name"]: row["pending"] for row in meter.statistics()["sinks"]}
        assert (pending["openmeter"], pending["recorded"]) == (1, 0)
        meter.close(0.5)


def test_a_meter_is_the_default_for_a_while(home):
    """The one that was there comes back as it was; neither is closed."""
    with RecordedMeter(home / "before") as before, RecordedMeter(home / "meter") as meter:
        with as_default(before):
            with as_default(meter) as same:
                assert same is llm_metering.get_meter() is meter
                llm_metering.record(USAGE, "customer-42")
            assert llm_metering.get_meter() is before
            llm_metering.record(USAGE, "acme")

        assert [each.subject for each in meter.events] == ["customer-42"]
        assert [each.subject for each in before.events] == ["acme"]


def test_there_may_have_been_no_default(home):
    """Then there is none afterwards, also where the block failed."""
    with RecordedMeter(home) as meter, pytest.raises(ZeroDivisionError), as_default(meter):
        _ = 1 / 0

    assert default_meter._default is None


def test_the_default_subject_stays(home):
    """What `install(subject=…)` says holds for the meter of a test as for any other."""
    llm_metering.install(subject="acme")

    with RecordedMeter(home) as meter, as_default(meter):
        llm_metering.record(USAGE)

        assert [each.subject for each in meter.events] == ["acme"]


def test_what_the_block_configured_is_closed(home):
    """Nobody would do it later."""
    with RecordedMeter(home / "meter") as meter, as_default(meter):
        made = llm_metering.configure(home=home / "made", sinks=())

    assert vars(made)["_closed"]
    assert default_meter._default is None


def test_it_is_a_meter(home):
    """So it goes wherever one is asked for."""
    with closing(RecordedMeter(home)) as meter:
        assert isinstance(meter, Meter)
