"""What a finding must say."""

from __future__ import annotations

import pytest

from llm_metering.checkup.finding import Finding, failure, ok, warning, worst

WELL = ok("a", "it is")
WARNED = warning("b", "it is not quite", means="something", advice="something")
FAILED = failure("c", "it is not", means="something", advice="something")


@pytest.mark.parametrize("level", ["warning", "failure"])
@pytest.mark.parametrize("said", [{}, {"means": "trouble"}, {"advice": "act"}], ids=str)
def test_trouble_is_explained(level, said):
    """What is not well says what it means and what to do, both."""
    with pytest.raises(ValueError, match="what it means and what to do"):
        Finding(check="x", level=level, found="it is not", **said)


@pytest.mark.parametrize(
    ("findings", "level"),
    [
        pytest.param([], "ok", id="nothing"),
        pytest.param([WELL], "ok", id="well"),
        pytest.param([WARNED, WELL], "warning", id="a warning"),
        pytest.param([WELL, FAILED, WARNED], "failure", id="a failure"),
    ],
)
def test_the_worst_of_all_counts(findings, level):
    """Whatever stands before or behind it."""
    assert worst(findings) == level
