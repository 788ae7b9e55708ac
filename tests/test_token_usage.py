"""`TokenUsage`: inclusive, whole, never clamped; unknown is not zero."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_metering.errors import InvalidUsageError, MeteringError
from llm_metering.token_usage import MAX_COUNT, TokenUsage

NAMES = [field.name for field in fields(TokenUsage)]
TOGETHER = [
    ("input_tokens", ("cache_read_input_tokens", "cache_creation_input_tokens")),
    ("input_tokens", ("input_audio_tokens", "input_image_tokens", "input_video_tokens")),
    ("input_tokens", ("tool_use_input_tokens",)),
    ("output_tokens", ("reasoning_output_tokens",)),
    ("output_tokens", ("output_audio_tokens", "output_image_tokens")),
    (
        "cache_creation_input_tokens",
        ("cache_creation_5m_input_tokens", "cache_creation_1h_input_tokens"),
    ),
]
"""What is added up, and may not be more than its total then."""
PARTS = {part: total for total, parts in TOGETHER for part in parts}

counts = st.one_of(st.none(), st.integers(0, 40), st.integers(0, MAX_COUNT))


def test_parts_are_inside_their_total():
    """Cached and reasoning tokens are part of input and output, and never added to the total."""
    usage = TokenUsage(
        input_tokens=100,
        output_tokens=20,
        cache_read_input_tokens=64,
        cache_creation_input_tokens=36,
        reasoning_output_tokens=20,
    )

    assert usage.total_tokens == 120


@pytest.mark.parametrize(
    "usage",
    [
        pytest.param(TokenUsage(), id="nothing"),
        pytest.param(TokenUsage(input_tokens=5), id="input alone"),
        pytest.param(TokenUsage(output_tokens=5), id="output alone"),
        pytest.param(TokenUsage(output_tokens=5, reported_total_tokens=9), id="a stated total"),
    ],
)
def test_where_a_part_is_unknown_there_is_no_total(usage):
    """Half of a total would look like a total."""
    assert usage.total_tokens is None
    assert usage.is_consistent


def test_zero_is_a_count_and_absence_is_none():
    """A reported 0 is known; what was not reported is not among the counts."""
    usage = TokenUsage(input_tokens=0, output_tokens=0, cache_read_input_tokens=0)

    assert usage.total_tokens == 0
    assert usage.counts() == {
        "input_tokens": 0,
        "output_tokens": 0,
        "cache_read_input_tokens": 0,
    }
    assert TokenUsage().counts() == {}


@pytest.mark.parametrize(
    ("reported", "consistent"),
    [
        pytest.param(None, True, id="none stated"),
        pytest.param(120, True, id="equal"),
        pytest.param(119, False, id="smaller"),
        pytest.param(137, False, id="larger"),
        pytest.param(0, False, id="zero"),
    ],
)
def test_the_stated_total_is_kept_and_compared(reported, consistent):
    """The provider's own total stays as it came; ours is still input plus output."""
    usage = TokenUsage(input_tokens=100, output_tokens=20, reported_total_tokens=reported)

    assert usage.reported_total_tokens == reported
    assert usage.total_tokens == 120
    assert usage.is_consistent is consistent
    assert "reported_total_tokens" not in usage.counts()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "count",
    [
        pytest.param(-1, id="negative"),
        pytest.param(1.0, id="float"),
        pytest.param(float("nan"), id="NaN"),
        pytest.param("7", id="string"),
        pytest.param(True, id="bool"),
        pytest.param([7], id="list"),
        pytest.param(MAX_COUNT + 1, id="beyond any call"),
        pytest.param(10**30, id="beyond 64 bits"),
    ],
)
def test_what_is_no_count_is_refused(name, count):
    """A wrong count is an error that names the field; it is never made plausible."""
    with pytest.raises(InvalidUsageError, match=name):
        TokenUsage(**{name: count})


def test_the_error_does_not_quote_the_value():
    """What stands where a count should be may be a piece of an answer."""
    with pytest.raises(InvalidUsageError) as raised:
        TokenUsage(input_tokens="the secret prompt")  # type: ignore[arg-type]

    assert "secret" not in str(raised.value)
    assert isinstance(raised.value, MeteringError)
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize(("part", "total"), PARTS.items(), ids=PARTS)
def test_a_part_may_equal_its_total_and_not_exceed_it(part, total):
    """The bound is exact, and holds only where the total is known."""
    assert getattr(TokenUsage(**{part: 10, total: 10}), part) == 10
    assert getattr(TokenUsage(**{part: 10}), part) == 10
    with pytest.raises(InvalidUsageError, match=total):
        TokenUsage(**{part: 11, total: 10})


@pytest.mark.parametrize(("total", "parts"), TOGETHER, ids=[" + ".join(p) for _, p in TOGETHER])
def test_parts_of_one_kind_are_added_up(total, parts):
    """Each may fit and all together not: a token is read from the cache or written to it."""
    share = dict.fromkeys(parts, 5)
    whole = 5 * len(parts)

    assert TokenUsage(**share, **{total: whole}).is_consistent
    with pytest.raises(InvalidUsageError) as raised:
        TokenUsage(**share, **{total: whole - 1})

    assert str(raised.value) == (f"{' + '.join(parts)} is {whole}, more than {total} ({whole - 1})")
    assert not TokenUsage(**share, **{total: whole - 1}, as_reported=True).is_consistent


def test_it_is_frozen():
    """Nobody changes a count after it was checked."""
    usage = TokenUsage(input_tokens=1)

    with pytest.raises(FrozenInstanceError):
        usage.input_tokens = 2  # type: ignore[misc]


@given(values=st.fixed_dictionaries(dict.fromkeys(NAMES, counts)))
def test_law_of_the_parts(values):
    """Whatever is accepted keeps every part within its total and adds only input and output."""
    try:
        usage = TokenUsage(**values)
    except InvalidUsageError:
        return

    for total, parts in TOGETHER:
        if values[total] is not None:
            assert sum(values[part] or 0 for part in parts) <= values[total]
    known = {k: v for k, v in values.items() if v is not None and k != "reported_total_tokens"}
    assert usage.counts() == known
    if usage.total_tokens is not None:
        assert usage.total_tokens == values["input_tokens"] + values["output_tokens"]


@given(input_tokens=st.integers(0, MAX_COUNT), output_tokens=st.integers(0, MAX_COUNT))
def test_every_sound_pair_is_accepted(input_tokens, output_tokens):
    """Nothing that could be true is refused."""
    usage = TokenUsage(input_tokens=input_tokens, output_tokens=output_tokens)

    assert usage.total_tokens == input_tokens + output_tokens
