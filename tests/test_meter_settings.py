"""What a meter refuses to be made of: each bad setting at once, by name."""

from __future__ import annotations

import pytest

from llm_metering.errors import ConfigurationError, SubjectError
from llm_metering.meter import Meter
from tests.transport.harness import ScriptedSink


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        pytest.param({"sinks": "carrier-pigeon://coop"}, "sinks", id="unknown sink"),
        pytest.param({"sinks": "no url"}, "sinks", id="no URL"),
        pytest.param({"sinks": ["memory:", "memory:"]}, "sinks", id="two of one name"),
        pytest.param({"sinks": [ScriptedSink(name="ledger")]}, "sinks", id="another ledger"),
        pytest.param({"sinks": (), "ledger": False}, "sinks", id="nowhere to go"),
        pytest.param({"home": "/dev/null/home"}, "home", id="home below a file"),
        pytest.param({"home": "/proc/no/such/home"}, "home", id="home that can't be made"),
        pytest.param({"source": "two words"}, "source", id="source with a space"),
        pytest.param({"colour": "red"}, "colour", id="unknown setting"),
    ],
)
def test_a_bad_setting_is_named(home, settings, setting):
    """A setting that cannot be used is refused at once, by name."""
    with pytest.raises(ConfigurationError) as caught:
        Meter(**{"home": home, "source": "tests"} | settings)

    assert caught.value.setting == setting
    assert setting in str(caught.value)


@pytest.mark.parametrize(
    ("sinks", "names"),
    [
        pytest.param("", [], id="none"),
        pytest.param((), [], id="an empty list"),
        pytest.param("memory:", ["memory"], id="one"),
        pytest.param("memory: openmeter+http://localhost", ["memory", "openmeter"], id="a line"),
        pytest.param(["memory:", ScriptedSink()], ["memory", "scripted"], id="a list"),
    ],
)
def test_sinks_are_given_in_several_ways(home, sinks, names):
    """As one string, as the environment has them, or as a list of URLs and objects."""
    with Meter(home, sinks, source="tests") as meter:
        assert [row["name"] for row in meter.statistics()["sinks"]] == ["ledger", *names]


@pytest.mark.parametrize("subject", ["", "  ", 42], ids=["empty", "blank", "number"])
def test_a_bad_subject_is_refused(home, subject):
    """Whoever pays has a name, given at once or later."""
    with pytest.raises(SubjectError, match="subject"):
        Meter(home, source="tests", subject=subject)
    with Meter(home, source="tests") as meter:
        with pytest.raises(SubjectError, match="subject"):
            meter.subject = subject
        assert meter.subject is None
