"""The meter's health as OpenTelemetry metrics, read with the real SDK."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import llm_metering
from llm_metering import Meter, TokenUsage
from llm_metering.otel import instrument, instruments, uninstrument
from llm_metering.otel.exported import READ_EVERY, Exported
from llm_metering.sinks import Delivery
from llm_metering.sinks.base import SinkLimits
from llm_metering.testing import FakeClock, MemorySink
from tests.forking import in_child

SINK = "llm_metering.sink.name"
STATE = "llm_metering.sink.state"


class Refusing:
    """A sink that needs a person."""

    name = "far"
    url = "far://away"
    account = "tests"
    limits = SinkLimits()

    def deliver(self, batch, /):
        return Delivery.try_later(batch, "401 Unauthorized", hold=True)

    def close(self):
        pass


class Counting:
    """Stands for a meter: says how often it was asked, and fails on demand."""

    def __init__(self, statistics):
        self.asked = 0
        self.broken = False
        self._statistics = statistics

    def statistics(self):
        self.asked += 1
        if self.broken:
            raise OSError("customer-42 used 7 tokens")
        return self._statistics


@pytest.fixture
def provider():
    """A provider of the SDK's, whose metrics `read` reads."""
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    provider.reader = reader
    yield provider
    uninstrument()
    provider.shutdown()


def read(provider):
    """Every point there is: by name, then by attributes."""
    data = provider.reader.get_metrics_data()
    points: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            assert scope.scope.name == "llm_metering"
            for metric in scope.metrics:
                by_attributes = points.setdefault(metric.name, {})
                for point in metric.data.data_points:
                    by_attributes[frozenset(point.attributes.items())] = point.value
    return points


def of(name, **more):
    """Attributes of a sink's point."""
    return frozenset({SINK: name, **more}.items())


@pytest.fixture
def meter(home):
    """A meter with two events, a sink that takes them, and one that waits for a person."""
    with Meter(home=home, sinks=[MemorySink(), Refusing()], source="tests") as meter:
        for subject in ("acme", None):
            meter.record(TokenUsage(input_tokens=10, output_tokens=2), subject)
        assert meter.drain(20, sink="ledger")
        assert meter.drain(20, sink="memory")
        assert not meter.drain(0.1, sink="far")
        yield meter
        meter.close(0.1)


def test_every_event_is_accounted_for(meter, provider):
    """Each sink's counts are those of `statistics()`, and add up; nothing is about calls' content."""
    instrument(meter, meter_provider=provider)

    points = read(provider)

    assert points["llm_metering.events.recorded"] == dict.fromkeys(map(of, ROWS), 2)
    assert points["llm_metering.events.acked"] == {of("ledger"): 2, of("memory"): 2, of("far"): 0}
    assert points["llm_metering.events.pending"] == {of("ledger"): 0, of("memory"): 0, of("far"): 2}
    assert points["llm_metering.events.dead"] == dict.fromkeys(map(of, ROWS), 0)
    assert points["llm_metering.sink.dropped"] == dict.fromkeys(map(of, ROWS), 0)
    assert points["llm_metering.events.dropped"] == {
        frozenset({("llm_metering.drop.reason", "disk_full")}): 0
    }
    flags = points["llm_metering.flags"]
    assert flags[frozenset({("llm_metering.flag", "unattributed")})] == 1
    assert points["llm_metering.sink.oldest_pending"][of("ledger")] == 0
    assert points["llm_metering.sink.oldest_pending"][of("far")] > 0
    assert points["llm_metering.sink.retries"][of("far")] >= 1
    assert points["llm_metering.failures"] == {frozenset(): 0}
    assert points["llm_metering.statistics.errors"] == {frozenset(): 0}


ROWS = ("ledger", "memory", "far")


def test_a_sink_is_in_one_state(meter, provider):
    """1 for the state that it is in and 0 for each other, so that alarms can be summed."""
    instrument(meter, meter_provider=provider)

    states = read(provider)["llm_metering.sink.state"]

    assert states[of("far", **{STATE: "paused"})] == 1
    assert states[of("far", **{STATE: "ok"})] == 0
    assert states[of("ledger", **{STATE: "ok"})] == 1
    assert len(states) == 3 * 4


def test_every_instrument_has_a_point(meter, provider):
    """None is a name without numbers, as one would be whose key the statistics lack."""
    instrument(meter, meter_provider=provider)

    expected = {each.name for each in (*instruments.INSTRUMENTS, instruments.ERRORS)}

    assert set(read(provider)) == expected
    assert read(provider)["llm_metering.statistics.errors"] == {frozenset(): 0}


def test_instrumenting_twice_is_once(meter, provider, caplog):
    """Nothing is registered a second time, which the SDK would warn of."""
    instrument(meter, meter_provider=provider)
    instrument(meter, meter_provider=provider)

    assert read(provider)["llm_metering.events.acked"][of("ledger")] == 2
    assert caplog.records == []


def test_uninstrumented_shows_nothing(meter, provider):
    """Until it is instrumented again, without a second set of instruments."""
    instrument(meter, meter_provider=provider)
    uninstrument()

    assert read(provider) == {}
    instrument(meter, meter_provider=provider)
    assert read(provider)["llm_metering.events.acked"][of("ledger")] == 2


def test_the_default_meter_is_shown_once_there_is_one(home, provider, monkeypatch):
    """Instrumenting makes no meter; the one that is made later is shown, and not its successor's
    absence."""
    monkeypatch.setenv("LLM_METERING_HOME", str(home))
    instrument(meter_provider=provider)

    assert set(read(provider)) == {"llm_metering.statistics.errors"}
    assert not any(home.iterdir())
    llm_metering.record(TokenUsage(input_tokens=1, output_tokens=1), "acme")
    llm_metering.flush()
    assert read(provider)["llm_metering.events.acked"] == {of("ledger"): 1}
    llm_metering.close()
    assert set(read(provider)) == {"llm_metering.statistics.errors"}


@pytest.fixture
def statistics(meter):
    """Real statistics."""
    return meter.statistics()


def test_the_files_are_read_once_for_all_instruments(statistics, provider):
    """However many ask within five seconds."""
    counting = Counting(statistics)
    instrument(counting, meter_provider=provider)

    for _ in range(3):
        assert read(provider)["llm_metering.events.acked"][of("ledger")] == 2

    assert counting.asked == 1


def test_the_files_are_read_again_after_a_while(statistics):
    """After five seconds, or twenty times what the last look took, if that is longer."""
    clock = FakeClock(1000.0)
    counting = Counting(statistics)
    exported = Exported(clock)
    exported.show(counting)

    exported.statistics()
    clock.advance(READ_EVERY - 0.1)
    exported.statistics()
    assert counting.asked == 1
    clock.advance(0.2)
    exported.statistics()
    assert counting.asked == 2

    slow = counting.statistics
    counting.statistics = lambda: (clock.advance(3.0), slow())[1]
    clock.advance(READ_EVERY)
    exported.statistics()
    clock.advance(59.0)
    exported.statistics()
    assert counting.asked == 3
    clock.advance(1.1)
    exported.statistics()
    assert counting.asked == 4


def test_statistics_that_fail_break_no_exporter(statistics, provider, caplog):
    """Other metrics come through, the failure is counted, and its text is not logged."""
    counting = Counting(statistics)
    counting.broken = True
    provider.get_meter("application").create_counter("requests").add(3)
    instrument(counting, meter_provider=provider)

    data = provider.reader.get_metrics_data()

    names = {
        metric.name: metric.data.data_points[0].value
        for scope in data.resource_metrics[0].scope_metrics
        for metric in scope.metrics
    }
    assert names == {"requests": 3, "llm_metering.statistics.errors": 1}
    assert [record.getMessage() for record in caplog.records] == [
        "the meter's statistics cannot be read: OSError"
    ]


def test_statistics_of_another_shape_break_nothing(provider):
    """An instrument that finds nothing of its own is left out, and counted."""
    instrument(Counting({"recorded": 1, "sinks": [{}]}), meter_provider=provider)

    points = read(provider)

    assert "llm_metering.events.acked" not in points
    assert points["llm_metering.calls.open"] == {frozenset(): 0}
    assert points["llm_metering.statistics.errors"][frozenset()] > 0


def test_late_usage_is_counted(statistics, provider):
    """It is on no bill, so that somebody should hear of it."""
    late = {"calls": 2, "input_tokens": 300, "output_tokens": 40}
    instrument(Counting({**statistics, "late_usage": late}), meter_provider=provider)

    assert read(provider)["llm_metering.calls.late"] == {frozenset(): 2}


def test_attributes_are_bounded(statistics, provider):
    """A home with more names than anybody looks at has one point for the rest of them."""
    many = {f"flag_{number:03}": 1 for number in range(instruments.MOST_NAMES + 20)}
    instrument(Counting({**statistics, "flags": many}), meter_provider=provider)

    flags = read(provider)["llm_metering.flags"]

    assert len(flags) == instruments.MOST_NAMES + 1
    assert flags[frozenset({("llm_metering.flag", "other")})] == 20
    assert sum(flags.values()) == len(many)


def test_two_sinks_of_one_name_are_one(statistics, provider):
    """Of two configurations in one home; attributes would not tell them apart."""
    doubled = {**statistics, "sinks": [*statistics["sinks"], *statistics["sinks"]]}
    instrument(Counting(doubled), meter_provider=provider)

    points = read(provider)

    assert points["llm_metering.events.acked"][of("ledger")] == 4
    assert points["llm_metering.sink.state"][of("far", **{STATE: "paused"})] == 2


def test_a_forked_child_reads_for_itself(meter, provider):
    """Its exporter waits for no lock that a thread of its parent's held."""
    instrument(meter, meter_provider=provider)
    exported = Exported()
    exported.show(meter)

    with exported._lock:
        assert in_child(lambda: exported.statistics() is not None)


def test_the_global_provider_may_come_later(home):
    """Instrumented before the application has set its provider, and again after it: once."""
    program = """
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        import llm_metering
        from llm_metering import otel
        from llm_metering.otel import instrument

        instrument()
        reader = InMemoryMetricReader()
        metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
        instrument()
        instrument(meter_provider=metrics.get_meter_provider())
        llm_metering.record(llm_metering.TokenUsage(input_tokens=1, output_tokens=1), "acme")
        llm_metering.flush()
        (resource,) = reader.get_metrics_data().resource_metrics
        (scope,) = resource.scope_metrics
        print(*(m.name for m in scope.metrics if m.name.endswith("acked")))
        print(len(otel._registry.all()))
        """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        env={**os.environ, "LLM_METERING_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("llm_metering.events.acked\n1\n", "")


def test_a_missing_extra_says_what_to_install():
    """Without OpenTelemetry's API the import says which `pip install` it wants."""
    program = """
        import sys
        sys.modules["opentelemetry"] = None
        try:
            import llm_metering.otel
        except ImportError as error:
            print(error)
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )

    assert "pip install 'llm-metering[otel]'" in done.stdout
