"""OpenAI's usage that the ledger does not take: unclear, contradictory, unfinished, or counted already."""

from __future__ import annotations

from datetime import timedelta

import pytest

from llm_metering.errors import ImportFileError
from tests.factories import batch_of, make_event

from .exports import (
    AFTER,
    DAY,
    OPENAI_TABLE,
    completions,
    embeddings,
    openai_bucket,
    openai_page,
    table,
    write,
)


def without(name):
    return {key: value for key, value in completions().items() if key != name}


@pytest.mark.parametrize(
    ("results", "message"),
    [
        pytest.param(
            [completions(input_video_tokens=5)],
            "bucket 1, result 1: its 'input_video_tokens' is not known here and may count",
            id="tokens of a new kind",
        ),
        pytest.param(
            [completions(details={"video": 5})], "its 'details' is not known", id="a number inside"
        ),
        pytest.param([without("output_tokens")], "it has no output_tokens", id="no output"),
        pytest.param([without("num_model_requests")], "no num_model_requests", id="no requests"),
        pytest.param(
            [completions(input_tokens="1000")], "its input_tokens is no whole number", id="a text"
        ),
        pytest.param(
            [completions(output_tokens=-1)], "its output_tokens is no whole number", id="negative"
        ),
        pytest.param(
            [completions(input_tokens=10**13)],
            r"result 1: its total_tokens is no whole number between 0 and 10\^12",
            id="beyond all bounds",
        ),
        pytest.param(
            [without("input_text_tokens")], "fetch it anew", id="audio that may be inside or not"
        ),
        pytest.param(
            [completions(), completions(object="organization.costs.result")],
            "result 2: it is 'organization.costs.result'; those of .*completions",
            id="costs",
        ),
        pytest.param([completions(), embeddings()], "several kinds", id="two kinds"),
        pytest.param(
            [completions(project_id=None)], "bucket 1, result 1: nobody is named", id="nobody"
        ),
        pytest.param([completions(project_id=5)], "its project_id is no text", id="a number as id"),
        pytest.param(["x"], "bucket 1, result 1: it is no object", id="no object"),
    ],
)
def test_what_cannot_be_imported_is_named(importing, events, tmp_path, results, message):
    """A row that would count less than it says, or nobody pays for, stops the file."""
    page = openai_page(openai_bucket(*results))

    with pytest.raises(ImportFileError, match=message) as caught:
        importing(write(tmp_path / "u.json", page), subject_from="project_id")

    assert str(caught.value).endswith("nothing of it was imported")
    assert events() == []


def test_a_subject_for_the_rest(importing, events, tmp_path):
    """Rows that do not name who pays are those of the subject that is named besides."""
    page = openai_page(openai_bucket(completions(), completions(project_id=None)))

    importing(write(tmp_path / "u.json", page), subject_from="project_id", subject="rest")

    assert [each["subject"] for each in events()] == ["proj_a", "rest"]


def test_keys_that_name_no_payer_are_refused(importing, tmp_path):
    """A key that such rows never have is an error with the choices."""
    page = openai_page(openai_bucket(completions()))

    with pytest.raises(ImportFileError, match=r"no 'team'; .* project_id, user_id, api_key_id"):
        importing(write(tmp_path / "u.json", page), subject_from="team", subject="acme")


def test_unknown_names_that_count_nothing_are_said(importing, tmp_path):
    """What is new and counts nothing is passed over, by name."""
    page = openai_page(openai_bucket(completions(region="eu", preview=True, extra_tokens=0)))

    imported = importing(write(tmp_path / "u.json", page), subject="acme")

    assert imported.ignored == ("extra_tokens", "preview", "region")


def test_other_numbers_than_before_are_refused(importing, total, tmp_path):
    """A bucket that has grown since it was imported is not passed over as known."""
    importing(write(tmp_path / "u.json", openai_page(openai_bucket(completions()))), subject="acme")
    grown = openai_page(
        openai_bucket(completions(num_model_requests=8)),
        openai_bucket(completions(), start=DAY + timedelta(days=1)),
    )

    with pytest.raises(ImportFileError, match=r"bucket 1, result 1: the ledger .* another calls;"):
        importing(write(tmp_path / "v.json", grown), subject="acme")

    assert total() == 1200


def test_another_payer_than_before_is_refused(importing, tmp_path):
    """Nor is the same bucket for somebody else."""
    page = write(tmp_path / "u.json", openai_page(openai_bucket(completions())))
    importing(page, subject="acme")

    with pytest.raises(ImportFileError, match="another subject;"):
        importing(page, subject="other")


def test_other_numbers_in_one_file_are_refused(importing, tmp_path):
    """Two pages that say different things of one bucket stop the file."""
    pages = [openai_page(openai_bucket(completions(output_tokens=n))) for n in (200, 201)]

    with pytest.raises(
        ImportFileError, match=r"bucket 2, result 1: .* other numbers than bucket 1"
    ):
        importing(write(tmp_path / "u.json", pages), subject="acme")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        pytest.param({"source": "two words"}, "'two words' cannot be a source", id="source"),
        pytest.param(
            {"subject": "\udcff"}, "the subject for it holds half a character", id="bytes"
        ),
    ],
)
def test_names_that_no_event_can_have_are_refused(importing, events, tmp_path, asked, message):
    """No sink could be sent these events, and no setting name them."""
    path = write(tmp_path / "u.json", openai_page(openai_bucket(completions())))

    with pytest.raises(ImportFileError, match=message):
        importing(path, **{"subject": "acme"} | asked)

    assert events() == []


def test_a_number_of_thousands_of_digits_is_refused(importing, tmp_path):
    """It is an error with its line, as any other number that is none."""
    content = table(OPENAI_TABLE, {"input_tokens": "9" * 5000})

    with pytest.raises(ImportFileError, match="line 2: its input_tokens is no whole number"):
        importing(write(tmp_path / "u.csv", content), subject="acme")


def test_a_line_twice_in_a_table_is_refused(importing, tmp_path):
    """Nobody can tell whether a line that repeats another one was copied."""
    with pytest.raises(ImportFileError, match="line 3: it repeats line 2"):
        importing(write(tmp_path / "u.csv", table(OPENAI_TABLE, {}, {})), subject="acme")


def test_lines_of_one_bucket_and_keys_are_one(importing, total, tmp_path):
    """Two lines of a table that differ in their numbers are both meant."""
    content = table(OPENAI_TABLE, {}, {"num_model_requests": "1.0"})

    assert importing(write(tmp_path / "u.csv", content), subject="acme").read == 1
    assert total("calls_total") == 11


@pytest.mark.parametrize(
    ("clock", "written"),
    [
        pytest.param(DAY + timedelta(hours=23), AFTER, id="by the clock"),
        pytest.param(None, DAY + timedelta(hours=23), id="by the file"),
    ],
)
def test_a_bucket_that_is_not_over_is_refused(ledger, events, tmp_path, clock, written):
    """A bucket that ends after the file was written, or after now, will say more one day."""
    import os

    from llm_metering.importing import import_file

    path = write(tmp_path / "u.json", openai_page(openai_bucket(completions())))
    moment = written if isinstance(written, float) else written.timestamp()
    os.utime(path, (moment, moment))

    with pytest.raises(
        ImportFileError, match=r"bucket 1, result 1: .*ends at 2026-11-19T00:00:00Z"
    ):
        import_file(
            ledger, path, subject="acme", clock=lambda: clock.timestamp() if clock else AFTER
        )

    assert events() == []


@pytest.mark.parametrize(
    ("event", "is_beside"),
    [
        pytest.param({}, True, id="in the bucket"),
        pytest.param({"time": DAY + timedelta(days=1)}, False, id="behind it"),
        pytest.param({"provider": "anthropic"}, False, id="of another provider"),
        pytest.param({"operation": "embeddings"}, False, id="another kind of call"),
        pytest.param({"provenance": "estimated"}, True, id="estimated"),
        pytest.param({"status": "cached"}, False, id="answered without the provider"),
    ],
)
def test_calls_that_were_metered_are_not_counted_twice(
    ledger, importing, total, tmp_path, event, is_beside
):
    """Usage of a period in which this library has metered the provider needs a word."""
    ledger.deliver(batch_of([make_event(**({"time": DAY + timedelta(hours=9)} | event))]))
    path = write(tmp_path / "u.json", openai_page(openai_bucket(completions())))

    if is_beside:
        with pytest.raises(ImportFileError, match=r"\(1 of 'tests'\), .*--beside-recorded"):
            importing(path, subject="acme")
        assert total() == 120
    assert importing(path, subject="acme", beside_recorded=is_beside).new == 1
    assert total() == 1320


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"model": None}, id="grouped otherwise"),
        pytest.param({"width": timedelta(hours=1)}, id="of shorter buckets"),
        pytest.param(
            {"start": DAY + timedelta(hours=17), "width": timedelta(hours=7)}, id="cut at its start"
        ),
    ],
)
def test_the_same_usage_cut_otherwise_is_not_counted_twice(importing, tmp_path, other):
    """Buckets that overlap imported ones, and are not the same, need that word as well."""
    times = {name: other[name] for name in ("start", "width") if name in other}
    result = completions(**{name: each for name, each in other.items() if name not in times})
    importing(write(tmp_path / "u.json", openai_page(openai_bucket(completions()))), subject="acme")

    with pytest.raises(ImportFileError, match="1 of 'import:openai'"):
        importing(
            write(tmp_path / "v.json", openai_page(openai_bucket(result, **times))), subject="acme"
        )
