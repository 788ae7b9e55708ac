"""Anthropic's usage in the ledger: what lies beside each other there is added up, and no call is invented."""

from __future__ import annotations

from datetime import timedelta

import pytest

from llm_metering.errors import ImportFileError

from .exports import (
    CONSOLE_TABLE,
    DAY,
    anthropic_bucket,
    anthropic_page,
    messages,
    table,
    write,
)


def test_a_result_is_an_event(importing, events, tmp_path):
    """The input is uncached tokens, cache reads and cache writes together; nobody counts the calls."""
    page = anthropic_page(anthropic_bucket(messages()))

    imported = importing(write(tmp_path / "u.json", page), subject_from="workspace_id")

    assert (imported.shape, imported.read, imported.new) == ("anthropic", 1, 1)
    (event,) = events()
    event.pop("id")
    assert event == {
        "specversion": "1.0",
        "source": "import:anthropic",
        "type": "llm.usage",
        "subject": "wrkspc_a",
        "time": "2026-11-18T00:00:00.000Z",
        "data": {
            "provider": "anthropic",
            "operation": "chat",
            "input_tokens": 1000,
            "output_tokens": 200,
            "total_tokens": 1200,
            "prompt_tokens": 1000,
            "completion_tokens": 200,
            "cache_read_input_tokens": 300,
            "cache_creation_input_tokens": 100,
            "cache_creation_5m_input_tokens": 60,
            "cache_creation_1h_input_tokens": 40,
            "web_search_requests": 2,
            "provenance": "reported",
            "status": "completed",
            "workspace_id": "wrkspc_a",
            "api_key_id": "apikey_1",
            "model": "claude-sonnet-5",
            "service_tier": "standard",
            "context_window": "0-200k",
            "inference_geo": "global",
            "bucket_end": "2026-11-19T00:00:00Z",
            "imported_from": "anthropic.messages",
        },
    }


def test_the_table_of_the_console(importing, events, tmp_path):
    """It says the same in other words; a moment in it is the beginning of a bucket."""
    content = table(CONSOLE_TABLE, {}, {"workspace": "Research", "speed": "fast"})

    imported = importing(write(tmp_path / "claude.csv", content), subject_from="workspace")

    assert imported.new == 2
    first, second = events()
    assert (first["subject"], second["subject"]) == ("Default", "Research")
    assert second["data"]["speed"] == second["data"]["service_tier"] == "fast"
    assert "service_tier" not in first["data"]
    assert first["data"]["total_tokens"] == 1200
    assert first["data"]["api_key"] == "checkout key"
    assert "calls" not in first["data"]


@pytest.mark.parametrize(
    ("moments", "starts", "ends"),
    [
        pytest.param(["2026-11-18"], ["18T00:00:00"], ["19T00:00:00"], id="days"),
        pytest.param(
            ["2026-11-18 02:00", "2026-11-18 23:00"],
            ["18T02:00:00", "18T23:00:00"],
            ["18T03:00:00", "19T00:00:00"],
            id="hours",
        ),
        pytest.param(
            ["2026-11-18 02:00", "2026-11-18 02:07"],
            ["18T02:00:00", "18T02:07:00"],
            ["18T02:01:00", "18T02:08:00"],
            id="minutes",
        ),
    ],
)
def test_buckets_of_the_console(importing, events, tmp_path, moments, starts, ends):
    """A table of days has days, one of hours or minutes has moments."""
    content = table(CONSOLE_TABLE, *({"usage_date_utc": each} for each in moments))

    importing(write(tmp_path / "claude.csv", content), subject="acme")

    assert [each["time"] for each in events()] == [f"2026-11-{each}.000Z" for each in starts]
    assert [each["data"]["bucket_end"] for each in events()] == [f"2026-11-{e}Z" for e in ends]


def test_rows_without_tokens_are_no_events(importing, events, tmp_path):
    """A row that counts nothing is counted, and makes no event."""
    zero = messages(
        uncached_input_tokens=0,
        output_tokens=0,
        cache_read_input_tokens=0,
        cache_creation={"ephemeral_1h_input_tokens": 0, "ephemeral_5m_input_tokens": 0},
        server_tool_use={"web_search_requests": 0},
    )
    page = anthropic_page(anthropic_bucket(zero), anthropic_bucket(start=DAY + timedelta(days=1)))

    imported = importing(write(tmp_path / "u.json", page), subject="acme")

    assert (imported.read, imported.empty, events()) == (0, 1, [])


def test_an_empty_page_is_read(importing, tmp_path):
    """A page without buckets is one."""
    assert importing(write(tmp_path / "u.json", anthropic_page()), subject="acme").read == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"cache_creation": {"ephemeral_5m_input_tokens": 1}},
            "it has no ephemeral_1h_input_tokens",
            id="a part is missing",
        ),
        pytest.param(
            {
                "cache_creation": {
                    "ephemeral_1h_input_tokens": 0,
                    "ephemeral_5m_input_tokens": 1,
                    "ephemeral_1d_input_tokens": 9,
                }
            },
            "its 'ephemeral_1d_input_tokens' is not known",
            id="a new kind of cache",
        ),
        pytest.param(
            {"server_tool_use": {"web_search_requests": 1, "code_requests": 3}},
            "its 'code_requests' is not known",
            id="a new tool",
        ),
        pytest.param({"thinking_tokens": 3}, "its 'thinking_tokens' is not known", id="new tokens"),
        pytest.param({"cache_creation": 5}, "its cache_creation is no object", id="another shape"),
        pytest.param({"uncached_input_tokens": 1.5}, "is no whole number", id="a fraction"),
        pytest.param({"uncached_input_tokens": True}, "is no whole number", id="a truth value"),
        pytest.param(
            {"workspace_id": None},
            r"nobody is named .* no workspace_id; .* workspace_id \(not in this row\), api_key_id",
            id="the default workspace",
        ),
    ],
)
def test_what_cannot_be_imported_is_named(importing, events, tmp_path, changes, message):
    """A result of another shape stops the file, and names itself."""
    page = anthropic_page(anthropic_bucket(messages(), messages(**changes)))

    with pytest.raises(ImportFileError, match=rf"bucket 1, result 2: .*{message}"):
        importing(write(tmp_path / "u.json", page), subject_from="workspace_id")

    assert events() == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"usage_date_utc": "18.11.2026"}, "no day such as", id="another date"),
        pytest.param(
            {"usage_output_tokens": "1,000"}, "5 cells|15 cells", id="a comma in a number"
        ),
        pytest.param({"usage_output_tokens": "-1"}, "is no whole number", id="negative"),
        pytest.param({"usage_input_tokens_cache_read": ""}, "it has no", id="an empty cell"),
    ],
)
def test_lines_that_cannot_be_imported_are_named(importing, tmp_path, changes, message):
    """A line of another shape stops the file, and names itself."""
    content = table(CONSOLE_TABLE, {}, changes)

    with pytest.raises(ImportFileError, match=rf"line 3.*({message})"):
        importing(write(tmp_path / "claude.csv", content), subject="acme")


@pytest.mark.parametrize(
    ("name", "cell", "message"),
    [
        pytest.param("audio_tokens", "7", "its 'audio_tokens' is not known", id="counts"),
        pytest.param("audio_tokens", "0", None, id="counts nothing"),
        pytest.param("region", "eu", None, id="a text"),
    ],
)
def test_a_new_column(importing, tmp_path, name, cell, message):
    """A column that is not known may only hold what counts nothing."""
    content = table(CONSOLE_TABLE | {name: cell}, {})
    path = write(tmp_path / "claude.csv", content)

    if message:
        with pytest.raises(ImportFileError, match=message):
            importing(path, subject="acme")
    else:
        assert importing(path, subject="acme").ignored == (name,)


def test_a_table_without_cached_tokens_is_refused(importing, tmp_path):
    """Without the columns of cached tokens nobody knows the input."""
    line = {name: cell for name, cell in CONSOLE_TABLE.items() if "cache_" not in name}

    with pytest.raises(ImportFileError, match="it has no usage_input_tokens_cache"):
        importing(write(tmp_path / "claude.csv", table(line, {})), subject="acme")


def test_a_late_correction_is_refused(importing, total, tmp_path):
    """Usage that the provider has corrected since is not passed over as known."""
    importing(
        write(tmp_path / "u.json", anthropic_page(anthropic_bucket(messages()))), subject="acme"
    )
    corrected = messages(server_tool_use={"web_search_requests": 3})

    with pytest.raises(ImportFileError, match="another web_search_requests;"):
        importing(
            write(tmp_path / "u.json", anthropic_page(anthropic_bucket(corrected))), subject="acme"
        )

    assert total() == 1200
