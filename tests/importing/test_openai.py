"""OpenAI's usage in the ledger: inclusive counts, one event a bucket and key, nothing guessed."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from .exports import (
    DAY,
    OPENAI_TABLE,
    completions,
    embeddings,
    openai_bucket,
    openai_page,
    table,
    write,
)


def test_a_result_is_an_event(importing, events, tmp_path):
    """Each result becomes one event at the beginning of its bucket, with its counts and its keys."""
    page = openai_page(openai_bucket(completions(), completions(project_id="proj_b")))

    imported = importing(write(tmp_path / "u.json", page), subject_from="project_id")

    assert (imported.shape, imported.read, imported.new) == ("openai", 2, 2)
    first, second = events()
    assert first.pop("id") != second.pop("id")
    assert second["subject"] == "proj_b"
    assert first == {
        "specversion": "1.0",
        "source": "import:openai",
        "type": "llm.usage",
        "subject": "proj_a",
        "time": "2026-11-18T00:00:00.000Z",
        "data": {
            "provider": "openai",
            "input_tokens": 1000,
            "output_tokens": 200,
            "total_tokens": 1200,
            "prompt_tokens": 1000,
            "completion_tokens": 200,
            "cache_read_input_tokens": 300,
            "cache_creation_input_tokens": 100,
            "input_audio_tokens": 70,
            "input_image_tokens": 20,
            "output_audio_tokens": 20,
            "output_image_tokens": 0,
            "calls": 7,
            "provenance": "reported",
            "status": "completed",
            "project_id": "proj_a",
            "model": "gpt-5-mini-2026-08-07",
            "batch": "false",
            "bucket_end": "2026-11-19T00:00:00Z",
            "imported_from": "openai.completions",
        },
    }


@pytest.mark.parametrize(
    ("said", "tier", "flags"),
    [
        pytest.param({"service_tier": "Flex"}, "flex", None, id="a tier"),
        pytest.param({"service_tier": "default", "batch": True}, "batch", None, id="a batch"),
        pytest.param({"batch": True}, "batch", None, id="a batch without a tier"),
        pytest.param({"service_tier": "auto"}, None, None, id="no answer"),
        pytest.param(
            {"service_tier": "flex", "batch": True}, "flex", ["service_tier_differs"], id="both"
        ),
        pytest.param(
            {"service_tier": "no tier"}, None, ["invalid_service_tier"], id="what is no word"
        ),
    ],
)
def test_the_tier_of_a_row(importing, events, tmp_path, said, tier, flags):
    """It is as in the event of a call; batches, which OpenAI says apart, are one."""
    page = openai_page(openai_bucket(completions(**said)))

    importing(write(tmp_path / "u.json", page), subject="acme")

    (event,) = events()
    assert (event["data"].get("service_tier"), event["data"].get("flags")) == (tier, flags)


def test_the_ledger_answers(importing, total, tmp_path):
    """What was imported is in the answers of the meters, by its day and model."""
    page = openai_page(
        openai_bucket(completions()), openai_bucket(completions(), start=DAY + timedelta(days=1))
    )

    importing(write(tmp_path / "u.json", page), subject="acme")

    assert total() == 2400
    assert total("calls_total", subject="acme", start=DAY, end=DAY + timedelta(days=1)) == 7
    assert total("tokens_cached") == 600


def test_a_repetition_is_not_counted_again(importing, total, tmp_path):
    """The same file, or one that overlaps it, adds what is new alone."""
    one = openai_bucket(completions())
    two = openai_bucket(completions(), start=DAY + timedelta(days=1))
    importing(write(tmp_path / "u.json", openai_page(one)), subject="acme")

    again = importing(write(tmp_path / "u.json", openai_page(one)), subject="acme")
    more = importing(write(tmp_path / "v.json", openai_page(one, two)), subject="acme")

    assert (again.read, again.new, again.known) == (1, 0, 1)
    assert (more.read, more.new, more.known) == (2, 1, 1)
    assert total() == 2400


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{}\n{}", id="one behind the other"),
        pytest.param("[{}, {}]", id="a list"),
        pytest.param("\ufeff {}\r\n\r\n{}\n", id="a mark and blank lines"),
    ],
)
def test_several_pages(importing, total, tmp_path, text):
    """A file may hold several pages, and what two of them have in common counts once."""
    shared = openai_bucket(completions())
    pages = [
        openai_page(shared, has_more=True),
        openai_page(shared, openai_bucket(completions(), start=DAY + timedelta(days=1))),
    ]
    first, second = (json.dumps(page, indent=2) for page in pages)
    content = text.replace("{}", first, 1).replace("{}", second, 1)

    imported = importing(write(tmp_path / "u.json", content), subject="acme")

    assert (imported.read, imported.new, imported.repeated) == (3, 2, 1)
    assert not imported.has_more
    assert total() == 2400


def test_pages_to_come_are_said(importing, tmp_path):
    """The last page may say that there are more: the file is a part."""
    page = openai_page(openai_bucket(completions()), has_more=True, next_page="page_2")

    assert importing(write(tmp_path / "u.json", page), subject="acme").has_more


def test_two_results_of_one_bucket_and_keys_are_one(importing, events, tmp_path):
    """Where the provider lists a bucket's keys twice, it means both: their sum is the event."""
    bucket = openai_bucket(completions(), completions(num_model_requests=1))

    imported = importing(write(tmp_path / "u.json", [bucket, bucket]), subject="acme")

    (event,) = events()
    assert (imported.read, imported.repeated) == (2, 1)
    assert (event["data"]["input_tokens"], event["data"]["calls"]) == (2000, 8)


def test_embeddings_lie_beside_completions(importing, total, events, tmp_path):
    """They are calls of their own: importing both is no double counting."""
    importing(write(tmp_path / "c.json", openai_page(openai_bucket(completions()))), subject="acme")
    importing(write(tmp_path / "e.json", openai_page(openai_bucket(embeddings()))), subject="acme")

    assert total() == 1290
    data = events()[1]["data"]
    assert (data["operation"], data["calls"], data["output_tokens"]) == ("embeddings", 3, 0)


def test_the_table_of_the_dashboard(importing, events, tmp_path):
    """It has the same names, whole numbers as 10.0, and lines without numbers for empty buckets."""
    empty = dict.fromkeys(OPENAI_TABLE, "") | {
        name: OPENAI_TABLE[name] for name in ("start_time", "end_time")
    }
    content = table(OPENAI_TABLE, {}, empty)

    imported = importing(write(tmp_path / "completions_usage.csv", content), subject_from="user_id")

    assert (imported.read, imported.empty) == (1, 1)
    (event,) = events()
    assert event["subject"] == "user-1"
    assert {name: event["data"][name] for name in ("total_tokens", "calls", "batch")} == {
        "total_tokens": 69846,
        "calls": 10,
        "batch": "false",
    }


def test_page_and_table_are_the_same_usage(importing, tmp_path):
    """What was imported from the API is known when the table says it again."""
    result = {
        name: int(float(value)) if name.endswith(("_tokens", "_requests")) else value
        for name, value in OPENAI_TABLE.items()
        if "time" not in name
    }
    result |= {"object": completions()["object"], "batch": False}
    importing(write(tmp_path / "u.json", openai_page(openai_bucket(result))), subject="acme")

    again = importing(write(tmp_path / "u.csv", table(OPENAI_TABLE, {})), subject="acme")

    assert (again.new, again.known) == (0, 1)


def test_tabs_separate_as_well(importing, tmp_path):
    """A table that went through a spreadsheet has tabs."""
    content = table(OPENAI_TABLE, {}, separator="\t")

    assert importing(write(tmp_path / "u.tsv", content), subject="acme").new == 1


def test_contradictory_numbers_are_kept_and_flagged(importing, events, tmp_path):
    """Parts that do not add up are the provider's own numbers, with a flag."""
    page = openai_page(openai_bucket(completions(input_uncached_tokens=601)))

    importing(write(tmp_path / "u.json", page), subject="acme")

    (event,) = events()
    assert event["data"]["flags"] == ["usage_inconsistent"]
    assert event["data"]["input_tokens"] == 1000


def test_results_of_an_earlier_api(importing, events, tmp_path):
    """Text alone is read as it was; what is not said is not there."""
    old = {
        name: completions()[name]
        for name in (
            *("object", "input_tokens", "output_tokens", "num_model_requests"),
            *("project_id", "model", "batch", "input_cached_tokens"),
        )
    } | {"input_audio_tokens": 0, "output_audio_tokens": 0}

    importing(write(tmp_path / "u.json", openai_page(openai_bucket(old))), subject="acme")

    (event,) = events()
    assert event["data"]["cache_read_input_tokens"] == 300
    assert "cache_creation_input_tokens" not in event["data"]
    assert "input_audio_tokens" not in event["data"]
