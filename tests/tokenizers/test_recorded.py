"""Our counts beside the providers' own, on recorded calls; `benchmarks/estimates.py` prints them."""

import os
from collections import defaultdict
from pathlib import Path

import pytest

from benchmarks.estimates import OPENAI_CHAT, cases, errors

FOLDER = os.environ.get("LLM_METERING_RESPONSES")
pytestmark = pytest.mark.skipif(
    not FOLDER, reason="recorded traffic: LLM_METERING_RESPONSES is not set"
)

FEW_TOKENS = {"nova", "mistral"}
"""Families whose recorded answers are of a few tokens, so that one token is many percent."""


@pytest.fixture(scope="module")
def families(encodings):
    """The recorded calls that can be counted, by family."""
    found = defaultdict(list)
    for case in cases(Path(FOLDER), encodings):
        if not case.aside:
            found[case.family].append(case)
    return found


def test_openai_chat_is_counted_as_openai_does(families):
    """Input within 2 percent, visible output within 1."""
    chosen = families[OPENAI_CHAT]

    assert len(chosen) >= 20
    assert max(errors([case.input for case in chosen])) <= 2
    assert max(errors([case.visible for case in chosen])) <= 1


def test_other_families_are_estimated(families):
    """Input and visible output within 10 percent, where there is more than one call."""
    found = {
        name: (errors([c.input for c in chosen]), errors([c.visible for c in chosen]))
        for name, chosen in families.items()
        if len(chosen) > 1 and name != OPENAI_CHAT
    }

    assert len(found) >= 14
    inputs = {name: of_input[0] for name, (of_input, _) in found.items()}
    outputs = {name: of_output[0] for name, (_, of_output) in found.items() if of_output}
    assert {name: error for name, error in inputs.items() if error > 10} == {}
    assert {name for name, error in outputs.items() if error > 10} <= FEW_TOKENS


def test_most_recorded_calls_can_be_counted(encodings):
    """What is set aside is the smaller part, and each for a reason."""
    found = list(cases(Path(FOLDER), encodings))
    aside = [case for case in found if case.aside]

    assert len(found) > 200
    assert len(aside) < len(found) / 3
    by_hand = [case for case in aside if case.aside.startswith("changed by hand")]
    assert len(by_hand) <= 8
