"""`llm-metering import`: what is taken, what is said, and how it fails."""

from __future__ import annotations

import json
import os

import pytest

from llm_metering.cli import importing as command
from llm_metering.events import encode
from tests.importing.exports import AFTER, completions, openai_bucket, openai_page, write

from .conftest import make_event, record


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def usage(tmp_path):
    """A page of OpenAI's usage, exported when it was over."""
    page = openai_page(
        openai_bucket(completions(), completions(project_id="proj_b", region="eu")), has_more=True
    )
    for bucket in page["data"]:
        bucket["start_time"] -= 86400 * 365
        bucket["end_time"] -= 86400 * 365
    path = write(tmp_path / "usage.json", page)
    os.utime(path, (AFTER - 86400 * 300, AFTER - 86400 * 300))
    return path


@pytest.fixture
def events(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(encode(make_event(subject=name)) + b"\n" for name in ("a", "b")))
    return path


def test_files_are_taken_in(home, run, events, usage):
    """The table says of each file what was read and is new, and what it adds up to."""
    result = run("import", events, usage, "--subject-from", "project_id")

    assert result.exit_code == 2, "options of a provider are refused for events"
    first = run("import", events)
    second = run("import", usage, "--subject-from", "project_id")

    assert (first.exit_code, second.exit_code) == (0, 3), "there are further pages"
    lines = [line.split() for line in second.stdout.splitlines()]
    assert [str(usage), "openai", "2", "2", "0", "0"] in lines
    assert ["proj_b", "gpt-5-mini-2026-08-07", "1", "1,000", "200", "1,200", "7"] in lines
    assert "passed over, as they count nothing: region" in second.stdout
    assert "its last page says that there are more" in second.stdout
    assert "would count twice" in second.stdout
    usage_of = json.loads(run("usage", "--format", "json").stdout)
    assert sum(row["value"] for row in usage_of["data"]) == 2 * 1200 + 2 * 1200


def test_json_has_all_of_it(home, run, events):
    """What is for programs is the whole report and nothing else."""
    run("import", events)

    report = json.loads(run("import", events, "--dry-run", "--format", "json").stdout)

    assert report == {
        "home": str(home),
        "dry_run": True,
        "files": [
            {
                "path": str(events),
                "shape": "cloudevents",
                "read": 2,
                "new": 0,
                "known": 2,
                "repeated": 0,
                "differing": 0,
                "differing_places": [],
                "skipped": 0,
                "skipped_places": [],
                "empty": 0,
                "ignored": [],
                "has_more": False,
                "sums": [],
            }
        ],
        "complete": True,
        "error": None,
        "not_imported": [],
    }


def test_a_dry_run_makes_nothing(home, run, events):
    """It says what would be imported, and leaves no home behind."""
    result = run("import", events, "--dry-run")

    assert result.exit_code == 0
    assert "nothing was written" in result.stdout
    assert not home.exists()


def test_a_dry_run_of_two_files_knows_the_ledger_alone(home, run, events):
    """What the first file would bring is not there for the second one, which is said."""
    result = run("import", events, events, "--dry-run")

    assert [line.split()[-4:] for line in result.stdout.splitlines()[2:4]] == [
        ["2", "2", "0", "0"]
    ] * 2
    assert "each file compared with the ledger alone" in result.stdout


def test_a_file_that_is_refused_ends_it(home, run, events, tmp_path):
    """Files before it are imported and said; it and those behind it are not."""
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(b'{"specversion":"1.0"}\n')

    result = run("import", events, bad, tmp_path / "never.jsonl", "--format", "json")

    report = json.loads(result.stdout)
    assert result.exit_code == 2
    assert [each["new"] for each in report["files"]] == [2]
    assert report["not_imported"] == [str(bad), str(tmp_path / "never.jsonl")]
    assert report["error"].startswith(f"{bad}: line 1: no CloudEvent")
    assert result.stderr == f"llm-metering: {report['error']}\n"


@pytest.mark.parametrize("kind", ["skipped", "differing"])
def test_what_was_not_taken_is_exit_code_3(home, run, events, kind):
    """Lines that were passed over, and events with another content, are named and not a success."""
    if kind == "skipped":
        events.write_bytes(events.read_bytes() + b'{"torn\n')
        result = run("import", events, "--skip-unreadable")
    else:
        run("import", events)
        events.write_bytes(events.read_bytes().replace(b'"subject":"a"', b'"subject":"z"'))
        result = run("import", events)

    assert result.exit_code == 3
    assert {
        "skipped": "1 lines hold no event and were passed over: 3",
        "differing": "1 events have the source and id of another event with another content, and "
        "were not taken: 1",
    }[kind] in result.stdout


def test_metered_calls_need_a_word(home, run, events, usage):
    """Usage of a time in which the provider's calls are in the ledger is refused without one."""
    call = make_event(provider="openai", time=make_event().time.replace(day=18, year=2025))
    events.write_bytes(encode(call) + b"\n")
    run("import", events)

    refused = run("import", usage, "--subject", "acme")
    taken = run("import", usage, "--subject", "acme", "--beside-recorded")

    assert (refused.exit_code, taken.exit_code) == (2, 3)
    assert "--beside-recorded" in refused.stderr


def test_calls_in_a_journal_need_it_as_well(home, run, usage):
    """Calls that a finished process left in its journal are taken in first, and so found."""
    record(home, make_event(provider="openai", time=make_event().time.replace(day=18, year=2025)))

    refused = run("import", usage, "--subject", "acme")

    assert refused.exit_code == 2
    assert "(1 of 'shop'), which may be the same calls" in refused.stderr


def test_calls_that_the_ledger_does_not_take_are_said(home, run, usage, monkeypatch):
    """What cannot be looked for is said: the usage may count twice one day."""
    record(home, make_event(provider="openai"))
    monkeypatch.setattr(command, "take_in", lambda settings, patience: False)

    result = run("import", usage, "--subject", "acme", "--format", "json")
    again = run("import", usage, "--subject", "acme")

    assert (result.exit_code, json.loads(result.stdout)["complete"]) == (3, False)
    assert "is not all in the ledger" not in again.stdout, "nothing is new"


def test_pages_without_an_end_are_exit_code_3(home, run, usage, tmp_path):
    """A script sees that the last page is missing; where it is there, all is well."""
    page = json.loads(usage.read_text())
    for bucket in page["data"]:
        bucket["start_time"] += 86400
        bucket["end_time"] += 86400
    last = write(tmp_path / "last.json", page | {"has_more": False})
    os.utime(last, (AFTER - 86400 * 300, AFTER - 86400 * 300))

    short = run("import", usage, "--subject", "acme")
    whole = run("import", usage, last, "--subject", "acme")

    assert (short.exit_code, whole.exit_code) == (3, 0)


@pytest.mark.parametrize("option", ["--subject", "--subject-from", "--source"])
def test_an_empty_option_is_named(home, run, usage, option):
    """A name that is empty, as a script may make it, is no name."""
    result = run("import", usage, option, "")

    assert (result.exit_code, result.stderr) == (2, f"llm-metering: {option}: it is empty\n")


def test_a_ledger_that_is_off_takes_nothing(home, run, events, monkeypatch):
    """Without a ledger there is nothing to import into, and the setting is named."""
    monkeypatch.setenv("LLM_METERING_LEDGER", "off")

    result = run("import", events)

    assert result.exit_code == 2
    assert "switched off (environment LLM_METERING_LEDGER)" in result.stderr
