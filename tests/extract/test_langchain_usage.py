"""LangChain's `usage_metadata`, turned into `TokenUsage` once, or refused."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage

from llm_metering.errors import InvalidUsageError, UnknownUsageError
from llm_metering.extract.langchain import extract_usage, without_false_zeros
from llm_metering.token_usage import TokenUsage

PLAIN = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        pytest.param(
            PLAIN,
            TokenUsage(input_tokens=100, output_tokens=20, reported_total_tokens=120),
            id="plain",
        ),
        pytest.param(
            {**PLAIN, "input_token_details": {}, "output_token_details": {}},
            TokenUsage(input_tokens=100, output_tokens=20, reported_total_tokens=120),
            id="empty details",
        ),
        pytest.param(
            {**PLAIN, "input_token_details": None, "output_token_details": None},
            TokenUsage(input_tokens=100, output_tokens=20, reported_total_tokens=120),
            id="null details",
        ),
        pytest.param(
            {"input_tokens": 100, "output_tokens": 20},
            TokenUsage(input_tokens=100, output_tokens=20),
            id="no total",
        ),
        pytest.param(
            {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0},
            TokenUsage(input_tokens=0, output_tokens=0, reported_total_tokens=0),
            id="explicit zeros",
        ),
        pytest.param(
            {"input_tokens": None, "output_tokens": 20, "total_tokens": None},
            TokenUsage(output_tokens=20),
            id="half of it",
        ),
        pytest.param(
            {**PLAIN, "total_tokens": 137},
            TokenUsage(input_tokens=100, output_tokens=20, reported_total_tokens=137),
            id="a total that does not add up is kept",
        ),
        pytest.param(
            {
                **PLAIN,
                "input_token_details": {"audio": 3, "cache_read": 64, "cache_creation": 30},
                "output_token_details": {"audio": 2, "reasoning": 7},
            },
            TokenUsage(
                input_tokens=100,
                output_tokens=20,
                cache_read_input_tokens=64,
                cache_creation_input_tokens=30,
                reasoning_output_tokens=7,
                input_audio_tokens=3,
                output_audio_tokens=2,
                reported_total_tokens=120,
            ),
            id="all details",
        ),
        pytest.param(
            {
                **PLAIN,
                "input_token_details": {"cache_read": 0, "cache_creation": 0},
                "output_token_details": {"reasoning": 0},
            },
            TokenUsage(
                input_tokens=100,
                output_tokens=20,
                cache_read_input_tokens=0,
                cache_creation_input_tokens=0,
                reasoning_output_tokens=0,
                reported_total_tokens=120,
            ),
            id="zero parts are parts",
        ),
        pytest.param(
            {
                **PLAIN,
                "input_token_details": {"flex": 36, "flex_cache_read": 64, "audio": 0},
                "output_token_details": {"flex": 13, "flex_reasoning": 7},
            },
            TokenUsage(
                input_tokens=100,
                output_tokens=20,
                cache_read_input_tokens=64,
                reasoning_output_tokens=7,
                input_audio_tokens=0,
                reported_total_tokens=120,
            ),
            id="flex tier",
        ),
        pytest.param(
            {
                **PLAIN,
                "input_token_details": {"priority": 6, "priority_cache_creation": 94},
                "output_token_details": {"priority": 20, "priority_reasoning": 0},
            },
            TokenUsage(
                input_tokens=100,
                output_tokens=20,
                cache_creation_input_tokens=94,
                reasoning_output_tokens=0,
                reported_total_tokens=120,
            ),
            id="priority tier",
        ),
        pytest.param(
            {
                **PLAIN,
                "input_token_details": {
                    "cache_read": 40,
                    "cache_creation": 0,
                    "ephemeral_5m_input_tokens": 10,
                    "ephemeral_1h_input_tokens": 20,
                },
            },
            TokenUsage(
                input_tokens=100,
                output_tokens=20,
                cache_read_input_tokens=40,
                cache_creation_input_tokens=30,
                cache_creation_5m_input_tokens=10,
                cache_creation_1h_input_tokens=20,
                reported_total_tokens=120,
            ),
            id="cache writes by lifetime",
        ),
        pytest.param(
            {
                **PLAIN,
                "input_token_details": {
                    "cache_creation": 30,
                    "ephemeral_5m_input_tokens": 0,
                    "ephemeral_1h_input_tokens": 0,
                },
            },
            TokenUsage(
                input_tokens=100,
                output_tokens=20,
                cache_creation_input_tokens=30,
                cache_creation_5m_input_tokens=0,
                cache_creation_1h_input_tokens=0,
                reported_total_tokens=120,
            ),
            id="cache writes without a lifetime",
        ),
        pytest.param(
            {**PLAIN, "input_token_details": {"ephemeral_5m_input_tokens": 10}},
            TokenUsage(
                input_tokens=100,
                output_tokens=20,
                cache_creation_input_tokens=10,
                cache_creation_5m_input_tokens=10,
                reported_total_tokens=120,
            ),
            id="a lifetime alone",
        ),
        pytest.param(
            {
                **PLAIN,
                "input_token_details": {
                    "cache_creation": 30,
                    "ephemeral_5m_input_tokens": 10,
                    "ephemeral_1h_input_tokens": 20,
                },
            },
            TokenUsage(
                input_tokens=100,
                output_tokens=20,
                cache_creation_input_tokens=30,
                cache_creation_5m_input_tokens=10,
                cache_creation_1h_input_tokens=20,
                reported_total_tokens=120,
            ),
            id="lifetimes beside their sum",
        ),
        pytest.param(
            {**PLAIN, "total_tokens": 127, "output_token_details": {"flex_reasoning": 7}},
            TokenUsage(
                input_tokens=100,
                output_tokens=27,
                reasoning_output_tokens=7,
                reported_total_tokens=127,
            ),
            id="reasoning beside the output",
        ),
        pytest.param(
            {**PLAIN, "input_token_details": {"image": 9}, "something": "else"},
            TokenUsage(input_tokens=100, output_tokens=20, reported_total_tokens=120),
            id="keys we do not count",
        ),
    ],
)
def test_usage_is_read(usage, expected):
    """LangChain's counts are inclusive as ours are; parts stay parts, whatever they are called."""
    assert extract_usage(usage) == expected


@pytest.mark.parametrize(
    "usage",
    [
        pytest.param({}, id="empty"),
        pytest.param({"total_cost": 0}, id="what a cache hit without usage leaves"),
        pytest.param({"input_tokens": 5}, id="no output"),
        pytest.param({"output_tokens": 5}, id="no input"),
        pytest.param({"prompt_tokens": 5, "completion_tokens": 5}, id="OpenAI's names"),
        pytest.param({"input_tokens": None, "output_tokens": None}, id="nothing but nulls"),
        pytest.param({**PLAIN, "input_token_details": [1]}, id="details are a list"),
        pytest.param({**PLAIN, "output_token_details": "7"}, id="details are a string"),
        pytest.param(None, id="None"),
        pytest.param([100, 20], id="list"),
        pytest.param("100", id="string"),
    ],
)
def test_an_unknown_shape_is_refused(usage):
    """It is not searched for numbers that might mean something."""
    with pytest.raises(UnknownUsageError):
        extract_usage(usage)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"input_tokens": -1}, id="negative input"),
        pytest.param({"output_tokens": -1}, id="negative output"),
        pytest.param({"input_tokens": 1.5}, id="half a token"),
        pytest.param({"output_tokens": "20"}, id="string"),
        pytest.param({"output_tokens": True}, id="bool"),
        pytest.param({"total_tokens": -120}, id="negative total"),
        pytest.param({"input_token_details": {"cache_read": -1}}, id="negative part"),
        pytest.param({"input_token_details": {"audio": 2.5}}, id="float part"),
        pytest.param(
            {"input_token_details": {"ephemeral_5m_input_tokens": "60"}}, id="a lifetime as string"
        ),
        pytest.param(
            {"input_token_details": {"ephemeral_5m_input_tokens": 9, "cache_creation": "1"}},
            id="written as string",
        ),
        pytest.param(
            {
                "input_token_details": {
                    "ephemeral_5m_input_tokens": -5,
                    "ephemeral_1h_input_tokens": 5,
                }
            },
            id="lifetimes that cancel out",
        ),
        pytest.param({"input_tokens": 10**30}, id="beyond any call"),
    ],
)
def test_what_cannot_be_true_is_refused(change):
    """Nothing is clamped, rounded or dropped until it fits."""
    with pytest.raises(InvalidUsageError):
        extract_usage({**PLAIN, **change})


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"input_token_details": {"cache_read": 101}}, id="more cached than input"),
        pytest.param(
            {"input_token_details": {"cache_read": 60, "cache_creation": 60}},
            id="read and written exceed input",
        ),
        pytest.param(
            {"input_token_details": {"ephemeral_5m_input_tokens": 60, "cache_read": 60}},
            id="read and written by lifetime exceed input",
        ),
        pytest.param({"output_token_details": {"reasoning": 21}}, id="more reasoning than output"),
    ],
)
def test_counts_that_contradict_each_other_are_kept(change):
    """They are the provider's own; nothing is bent, and whoever asks is told."""
    usage = extract_usage({**PLAIN, **change})

    assert (usage.input_tokens, usage.output_tokens) == (100, 20)
    assert not usage.is_consistent


@pytest.mark.parametrize(
    ("usage", "has_output", "expected"),
    [
        pytest.param(
            TokenUsage(input_tokens=0, output_tokens=20, reported_total_tokens=20),
            True,
            TokenUsage(output_tokens=20),
            id="no prompt",
        ),
        pytest.param(
            TokenUsage(input_tokens=0, output_tokens=20, reported_total_tokens=20),
            False,
            TokenUsage(output_tokens=20),
            id="no prompt of what nobody shows",
        ),
        pytest.param(
            TokenUsage(input_tokens=100, output_tokens=0, cache_read_input_tokens=64),
            True,
            TokenUsage(input_tokens=100, cache_read_input_tokens=64),
            id="no answer",
        ),
        pytest.param(
            TokenUsage(input_tokens=0, output_tokens=0, cache_read_input_tokens=0),
            True,
            TokenUsage(),
            id="nothing at all",
        ),
    ],
)
def test_a_zero_that_cannot_be_is_no_count(usage, has_output, expected):
    """LangChain's packages write 0 where the provider did not say: it is not known, and no 0."""
    assert without_false_zeros(usage, has_output=has_output) == expected


@pytest.mark.parametrize(
    ("usage", "has_output"),
    [
        pytest.param(TokenUsage(input_tokens=100, output_tokens=0), False, id="an empty answer"),
        pytest.param(TokenUsage(input_tokens=0, output_tokens=0), False, id="an empty call"),
        pytest.param(TokenUsage(output_tokens=20), True, id="what is not known is not known"),
        pytest.param(TokenUsage(input_tokens=1, output_tokens=1), True, id="counts"),
    ],
)
def test_a_zero_that_can_be_is_kept(usage, has_output):
    """An answer may be empty: then its 0 is the provider's."""
    assert without_false_zeros(usage, has_output=has_output) is usage


def test_an_error_names_keys_and_no_values():
    """What stands where usage should be may be a piece of an answer."""
    with pytest.raises(UnknownUsageError) as raised:
        extract_usage({"text": "the secret answer", 7: "x"})

    assert raised.value.keys == ["7", "text"]
    assert "secret" not in str(raised.value)


def test_the_input_is_not_changed():
    """The dict is LangChain's, shared with the application and other handlers."""
    usage = {**PLAIN, "input_token_details": {"ephemeral_5m_input_tokens": 10}}
    message = AIMessage("", usage_metadata=usage)
    before = message.model_copy(deep=True)

    extract_usage(message.usage_metadata)

    assert message == before


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 200), st.integers(), st.floats(), st.text(max_size=3)
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
details = st.one_of(
    anything,
    st.dictionaries(
        st.sampled_from(
            [
                *("audio", "cache_read", "cache_creation", "reasoning", "flex", "flex_cache_read"),
                *("priority_reasoning", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"),
            ]
        ),
        st.one_of(st.integers(-2, 50), anything),
    ),
)
usages = st.one_of(
    anything,
    st.fixed_dictionaries(
        {"input_tokens": scalars, "output_tokens": scalars},
        optional={
            "total_tokens": anything,
            "input_token_details": details,
            "output_token_details": details,
        },
    ),
)


@given(usage=usages)
@example(usage={**PLAIN, "input_token_details": {"ephemeral_5m_input_tokens": {}}})
@example(usage={**PLAIN, "input_token_details": {"cache_read": []}})
def test_any_json_is_read_or_refused(usage):
    """Whatever a server sends: counts it did send, or one of our two errors; never another."""
    try:
        found = extract_usage(usage)
    except (InvalidUsageError, UnknownUsageError):
        return

    assert found != TokenUsage()
    assert found.input_tokens == usage["input_tokens"]
    reported = usage["output_tokens"]
    # Unless the total says that the reasoning is beside it.
    assert found.output_tokens == reported or (
        found.output_tokens == reported + found.reasoning_output_tokens
        and found.total_tokens == usage["total_tokens"]
    )
    assert found.reported_total_tokens == usage.get("total_tokens")


@given(
    read=st.integers(0, 50),
    written=st.integers(0, 50),
    rest=st.integers(0, 50),
    tier=st.sampled_from(["", "flex_", "priority_"]),
)
def test_input_is_all_of_the_input(read, written, rest, tier):
    """The inclusive input is kept as it is; its parts never change the total."""
    usage = {
        "input_tokens": read + written + rest,
        "output_tokens": 0,
        "input_token_details": {f"{tier}cache_read": read, f"{tier}cache_creation": written},
    }

    found = extract_usage(usage)

    assert found.total_tokens == read + written + rest
    assert found.cache_read_input_tokens == read
    assert found.cache_creation_input_tokens == written
