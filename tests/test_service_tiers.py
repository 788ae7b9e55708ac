"""What is a tier and what is none, and what two that are said of one call come to."""

from __future__ import annotations

from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_metering.errors import InvalidArgumentError
from llm_metering.service_tiers import agreed, check_service_tier, in_mode, served_on

INVALID = ("invalid_service_tier",)
DIFFERS = ("service_tier_differs",)


class Traffic(StrEnum):
    """As google-genai has it."""

    FLEX = "ON_DEMAND_FLEX"


class Unset:
    """As Speakeasy's SDKs have it."""


@pytest.mark.parametrize(
    ("word", "tier"),
    [
        pytest.param("default", "default", id="known"),
        pytest.param("ON_DEMAND", "on_demand", id="upper case"),
        pytest.param("ultrafast", "ultrafast", id="a new word"),
        pytest.param("x" * 40, "x" * 40, id="the longest"),
        pytest.param(Traffic.FLEX, "on_demand_flex", id="an enum"),
        pytest.param(None, None, id="nothing"),
        pytest.param("", None, id="an empty word"),
        pytest.param("auto", None, id="what was asked for"),
        pytest.param("AUTO", None, id="what was asked for, in upper case"),
        pytest.param("unspecified", None, id="unspecified"),
        pytest.param("TRAFFIC_TYPE_UNSPECIFIED", None, id="unspecified, of Vertex AI"),
        pytest.param(Unset(), None, id="what was not sent"),
    ],
)
def test_a_word_is_a_tier(word, tier):
    """The provider's own word in lower case, a new one, too; what names no tier is none."""
    assert served_on(word, ("before",)) == (tier, ("before",))
    assert type(served_on(word)[0]) in (str, type(None))


@pytest.mark.parametrize(
    "word",
    [
        pytest.param("x" * 41, id="too long"),
        pytest.param("the secret answer", id="a text"),
        pytest.param("flex\n", id="a line"),
        pytest.param("priorité", id="beyond ASCII"),
        pytest.param("\ud800", id="half a character"),
        pytest.param(7, id="a number"),
        pytest.param(True, id="a truth"),
        pytest.param({"type": "flex"}, id="an object"),
        pytest.param(["flex"], id="a list"),
        pytest.param(b"flex", id="bytes"),
    ],
)
def test_what_is_no_word_is_dropped(word):
    """Whatever else a server sends is left out, and flagged without what it was."""
    assert served_on(word, ("before",)) == (None, ("before", *INVALID))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_a_tier_is_short_and_printable(word):
    """Whatever comes, the tier is at most 40 letters, digits and signs, or none."""
    tier, _ = served_on(word)

    assert tier is None or (tier.isascii() and tier.isprintable() and 0 < len(tier) <= 40)
    assert tier is None or served_on(tier) == (tier, ())


@pytest.mark.parametrize(
    ("tier", "mode", "expected"),
    [
        pytest.param("standard", "fast", ("fast", ()), id="on the plain tier"),
        pytest.param(None, "optimized", ("optimized", ()), id="without a tier"),
        pytest.param("standard", "standard", ("standard", ()), id="the plain mode"),
        pytest.param(None, "standard", (None, ()), id="a plain mode is no tier"),
        pytest.param("flex", "standard", ("flex", ()), id="the plain mode on another tier"),
        pytest.param("flex", None, ("flex", ()), id="no mode"),
        pytest.param("flex", "flex", ("flex", ()), id="the same word"),
        pytest.param("priority", "fast", ("priority", DIFFERS), id="two that cost more"),
        pytest.param("flex", 3, ("flex", INVALID), id="no word"),
    ],
)
def test_a_mode_beside_the_tier(tier, mode, expected):
    """A mode with a price of its own is the tier of a call on the plain one."""
    assert in_mode(tier, mode) == expected


@pytest.mark.parametrize(
    ("served", "said", "expected"),
    [
        pytest.param(None, "batch", ("batch", ()), id="the response says nothing"),
        pytest.param("default", "batch", ("batch", ()), id="default"),
        pytest.param("standard", "flex", ("flex", ()), id="standard"),
        pytest.param("on_demand", "batch", ("batch", ()), id="on_demand"),
        pytest.param("batch", "batch", ("batch", ()), id="both the same"),
        pytest.param("flex", None, ("flex", ()), id="nothing said beside it"),
        pytest.param("default", "standard", ("default", ()), id="two words for the plain one"),
        pytest.param("on_demand_flex", "flex", ("on_demand_flex", ()), id="Vertex AI's word"),
        pytest.param("priority", "batch", ("priority", DIFFERS), id="a contradiction"),
        pytest.param("flex", "default", ("flex", DIFFERS), id="a contradiction to the plain one"),
    ],
)
def test_what_is_said_beside_a_response(served, said, expected):
    """It stands where the response names the plain tier or none; a contradiction is flagged."""
    assert agreed(served, said) == expected


def test_an_argument_in_upper_case():
    """An argument is taken as a response is."""
    assert check_service_tier("Batch") == "batch"
    assert check_service_tier(None) is None


@pytest.mark.parametrize(
    ("said", "named"),
    [
        pytest.param("auto", "no answer: 'auto'", id="what was asked for"),
        pytest.param("", "no answer: ''", id="empty"),
        pytest.param("the secret answer", "got str", id="a text"),
        pytest.param(3, "got int", id="a number"),
    ],
)
def test_an_argument_that_is_no_tier(said, named):
    """It is refused with what a tier is, and without a text that may be anything."""
    with pytest.raises(InvalidArgumentError, match='such as "batch"') as caught:
        check_service_tier(said)

    assert named in str(caught.value)
    assert "secret" not in str(caught.value)
