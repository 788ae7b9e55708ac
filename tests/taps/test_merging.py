"""What a framework says and what the provider was seen to send, made one report."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llm_metering.calls import Report
from llm_metering.extract.reading import Reading
from llm_metering.taps.merging import completed, is_whole_report
from llm_metering.token_usage import TokenUsage


def usage(input_tokens, output_tokens, **parts):
    return TokenUsage(
        input_tokens=input_tokens, output_tokens=output_tokens, **parts, as_reported=True
    )


def reading(used, **fields):
    return Reading(shape="x", operation="chat", usage=used, **fields)


def merged(report, *readings, is_whole=True, flags=()):
    return completed(report, readings, flags=flags, is_whole=is_whole)


@pytest.mark.parametrize(
    ("said", "seen", "expected", "flags"),
    [
        pytest.param(None, usage(8, 3), usage(8, 3), (), id="nothing said"),
        pytest.param(usage(8, 3), None, usage(8, 3), (), id="nothing seen"),
        pytest.param(usage(8, 3), usage(8, 3), usage(8, 3), (), id="the same"),
        pytest.param(
            usage(8, 3, input_audio_tokens=1),
            usage(8, 3, cache_read_input_tokens=4),
            usage(8, 3, input_audio_tokens=1, cache_read_input_tokens=4),
            (),
            id="parts of both",
        ),
        pytest.param(
            usage(0, 3, cache_read_input_tokens=0),
            usage(8, 3, cache_read_input_tokens=4),
            usage(8, 3, cache_read_input_tokens=4),
            (),
            id="input left out",
        ),
        pytest.param(
            usage(4, 3),
            usage(1171, 3, cache_read_input_tokens=1167, cache_creation_input_tokens=0),
            usage(1171, 3, cache_read_input_tokens=1167, cache_creation_input_tokens=0),
            (),
            id="cache left out",
        ),
        pytest.param(
            usage(500, 70), usage(100, 20), usage(100, 20), ("usage_differs",), id="added up"
        ),
        pytest.param(
            usage(8, 3), usage(None, 3), usage(None, 3), (), id="a count that was made up"
        ),
        pytest.param(usage(None, 3), usage(8, None), usage(8, 3), (), id="each knows one of them"),
    ],
)
def test_counts(said, seen, expected, flags):
    """The provider's counts hold, completed by what only the framework has; a contradiction shows."""
    report = merged(Report(usage=said), reading(seen))

    assert report.usage == expected
    assert report.flags == flags


def test_a_try_that_was_broken_off():
    """A stream that broke off and was tried again by the integration does not displace the second."""
    report = merged(Report(usage=usage(8, 30)), reading(usage(8, 3), is_final=False))

    assert report.usage == usage(8, 30)
    assert report.flags == ("usage_differs",)


def test_a_stream_that_was_cut():
    """What was seen of a stream before it was cut does not displace what the framework knows."""
    report = merged(Report(usage=usage(8, 3)), reading(usage(8, None), is_final=False))

    assert report == Report(usage=usage(8, 3))


def test_an_unreadable_count():
    """Counts that we cannot read and the framework can, as those in quotes, are not flagged."""
    report = merged(Report(usage=usage(8, 3)), reading(None, flags=("invalid_usage",)))

    assert report == Report(usage=usage(8, 3))


@pytest.mark.parametrize(
    ("seen", "expected", "flags"),
    [
        pytest.param(usage(8, 3), usage(8, 3), (), id="the framework's"),
        pytest.param(usage(8, 0), usage(8, None), ("zero_usage",), id="the provider's"),
        pytest.param(usage(0, 0), usage(None, 3), ("zero_usage",), id="all of the provider's"),
    ],
)
def test_a_zero_that_cannot_be(seen, expected, flags):
    """A 0 beside an answer is not believed, whoever says it."""
    said = Report(usage=usage(None, 3), flags=("zero_usage",))
    if seen.output_tokens == 0 and seen.input_tokens:
        said = replace(said, usage=usage(8, None))

    report = merged(said, reading(seen))

    assert report.usage == expected
    assert report.flags == flags


@pytest.mark.parametrize(
    ("said", "seen", "expected", "flags"),
    [
        pytest.param(None, "flex", "flex", (), id="the framework lost it"),
        pytest.param("flex", None, "flex", (), id="not seen"),
        pytest.param("flex", "flex", "flex", (), id="the same"),
        pytest.param("flex", "default", "default", ("service_tier_differs",), id="another one"),
    ],
)
def test_tiers(said, seen, expected, flags):
    """The tier is the one that the provider was seen to name; another one of the framework's shows."""
    report = merged(
        Report(usage=usage(8, 3), service_tier=said), reading(usage(8, 3), service_tier=seen)
    )

    assert (report.service_tier, report.flags) == (expected, flags)


def test_several_answers():
    """Of several answers none is believed, since one may be of a call of the application's own."""
    report = merged(Report(usage=usage(8, 3)), reading(usage(1, 1)), reading(usage(2, 2)))

    assert report.usage == usage(8, 3)
    assert report.flags == ("several_responses",)


def test_cached():
    """An answer of the framework's cache stays one, whatever was read meanwhile."""
    report = Report(cached=True)

    assert merged(report, reading(usage(8, 3))) is report


def test_nothing_seen():
    """Without an answer the report is as it was, but for what went wrong with reading it."""
    report = Report(usage=usage(8, 3))

    assert merged(report) is report
    assert merged(report, flags=("tap_failed",)) == replace(report, flags=("tap_failed",))


def test_the_rest():
    """Names, time, measures and flags are those of both."""
    said = Report(model="m", measures={"a": 1}, flags=("unknown_usage:x", "other"))
    seen = reading(
        usage(8, 3),
        model="n",
        response_id="r",
        provider="p",
        measures={"a": 2, "b": 3},
        flags=("other", "odd"),
    )

    report = merged(said, seen)

    assert (report.model, report.response_id, report.provider) == ("m", "r", "p")
    assert report.measures == {"a": 1, "b": 3}
    assert report.flags == ("other", "odd")


@pytest.mark.parametrize(
    ("is_final", "is_whole", "expected"),
    [(True, False, True), (False, True, True), (False, False, False)],
)
def test_finality(is_final, is_whole, expected):
    """Counts are those of the whole call if the provider had finished, or the framework had."""
    report = merged(Report(), reading(usage(8, 3), is_final=is_final), is_whole=is_whole)

    assert report.is_final is expected


@pytest.mark.parametrize(
    ("used", "provider", "is_stream", "expected"),
    [
        pytest.param(usage(8, 3), "openai", False, True, id="whole"),
        pytest.param(usage(8, 3), "openai", True, False, id="a stream"),
        pytest.param(usage(8, 3), "cohere", False, False, id="one that loses some"),
        pytest.param(usage(8, 3), None, False, False, id="one nobody knows"),
        pytest.param(None, "openai", False, False, id="no usage"),
        pytest.param(usage(8, None), "openai", False, False, id="half a usage"),
    ],
)
def test_what_need_not_be_read(used, provider, is_stream, expected):
    """Only where the framework hands on all there is, the answer is not read at all."""
    assert is_whole_report(Report(usage=used), provider, is_stream) is expected
