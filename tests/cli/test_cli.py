"""The commands, on homes with real journals and ledgers."""

import fcntl
import json
import os
import pty
import re
import socket
import struct
import subprocess
import sys
import termios
from contextlib import closing
from datetime import timedelta
from importlib.metadata import version

import pytest
from rich.cells import cell_len

from llm_metering.ledger import Ledger
from llm_metering.meter import Meter
from llm_metering.sinks import open_sink
from llm_metering.token_usage import TokenUsage
from tests.factories import batch_of

from .conftest import NOON, make_event, record

HOSTILE = "[red]x[/red] \x1b[31m:smile:"


def words(line):
    """The cells of a line, without the space between them."""
    return line.split()


def as_process(home, *arguments, **environment):
    """Run `python -m llm_metering` as a user does, with its output in a pipe."""
    return subprocess.run(
        [sys.executable, "-m", "llm_metering", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=home.parent,
        env={**os.environ, "LLM_METERING_HOME": str(home), **environment},
    )


def in_terminal(home, *arguments, columns=80, **environment):
    """Run `python -m llm_metering` in a terminal of that width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "llm_metering", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=home.parent,
        env={
            **{name: value for name, value in os.environ.items() if name != "NO_COLOR"},
            "LLM_METERING_HOME": str(home),
            "TERM": "xterm-256color",
            **environment,
        },
    )
    os.close(theirs)
    seen = b""
    try:
        while piece := os.read(ours, 65536):
            seen += piece
    except OSError:
        pass  # that is how Linux says that the other end is closed
    os.close(ours)
    assert process.wait() == 0
    return seen.decode().replace("\r\n", "\n")


def test_usage_is_by_subject_and_model(run, home):
    """The table has what each subject used of each model, and the sums."""
    record(
        home,
        make_event(),
        make_event(),
        make_event(model="smollm2", usage=TokenUsage(input_tokens=1, output_tokens=2)),
        make_event(subject="zoo"),
    )

    done = run("usage")

    assert done.exit_code == 0
    assert done.stderr == ""
    assert [words(line) for line in done.stdout.splitlines() if "─" not in line] == [
        ["subject", "model", "input", "output", "cached", "reasoning", "total", "calls"],
        ["acme", "gpt-5-mini", "2,000", "400", "128", "14", "2,400", "2"],
        ["acme", "smollm2", "1", "2", "-", "-", "3", "1"],
        ["zoo", "gpt-5-mini", "1,000", "200", "64", "7", "1,200", "1"],
        ["total", "3,001", "602", "192", "21", "3,603", "4"],
    ]


def test_usage_counts_once_however_often_it_looks(run, home):
    """What a finished process left is taken in once; looking again changes nothing."""
    record(home, make_event())

    first, second = run("usage"), run("usage")
    record(home, make_event())
    third = run("usage")

    assert first.stdout == second.stdout
    assert words(third.stdout.splitlines()[-1])[-1] == "2"


def test_usage_sends_nothing(run, home, monkeypatch):
    """To look at usage takes it into the ledger and leaves what other sinks are owed to them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"openmeter+http://127.0.0.1:{server.getsockname()[1]}"
        record(home, make_event(), sinks=[open_sink(url, source="shop")])
        # Nor does it need them: one that cannot be used is no reason to show nothing.
        monkeypatch.setenv("LLM_METERING_SINKS", f"{url} nonsense:")
        monkeypatch.setenv("LLM_METERING_SOURCE", "shop")

        assert run("usage").exit_code == 0

        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()
    sinks = json.loads(run("status", "--format", "json").stdout)["sinks"]
    assert {sink["name"]: sink["pending"] for sink in sinks} == {"ledger": 0, "openmeter": 1}


def test_doubtful_usage_is_never_silent(run, home):
    """Counts that are not the provider's and calls nobody pays for are named below the table."""
    record(
        home,
        make_event(),
        make_event(provenance="estimated"),
        make_event(subject="unattributed", provenance="missing", usage=None, model=None),
        make_event(
            subject="zoo", provenance="partial", usage=TokenUsage(output_tokens=5), model=None
        ),
    )

    table, _, notes = run("usage").stdout.partition("\n\n")

    lines = [words(line) for line in table.splitlines() if "─" not in line]
    assert lines[2] == ["unattributed", "-", "-", "-", "-", "-", "-", "1"]
    assert lines[3] == ["zoo", "-", "-", "5", "-", "-", "-", "1"]
    assert [note.partition(":")[2].partition(":")[0] for note in notes.splitlines()] == [
        " 1 call estimated",
        " 1 call partial",
        " 1 call missing",
        " 1 call without a subject",
        " total is not input + output",
    ]
    assert "note: total" not in run("usage", "--meter", "tokens_output").stdout
    assert "no event here has 'modle'" in run("usage", "--group-by", "modle").stdout


def test_usage_json_is_the_query_result(run, home):
    """JSON is OpenMeter's query result of one meter, and all there is on the standard output."""
    record(home, make_event(), make_event(subject="zoo", provenance="estimated"))
    arguments = ["--group-by", "subject", "--group-by", "model", "--window", "hour"]

    done = run("usage", "--format", "json", *arguments, "--from", "2026-11-21")

    with Meter(home, ()) as meter:
        report = meter.usage(
            group_by=["subject", "model"], window="HOUR", start="2026-11-21T00:00:00Z"
        )
    assert json.loads(done.stdout) == report.to_dict()
    assert json.loads(done.stdout)["from"] == "2026-11-21T00:00:00Z"
    assert [row["value"] for row in json.loads(done.stdout)["data"]] == [1200, 1200]
    assert done.stderr == ""


def test_usage_of_one_meter(run, home):
    """A meter that is asked for is the only column, and the only value in JSON."""
    record(home, make_event())

    table = run("usage", "--meter", "tokens_cached").stdout
    data = json.loads(run("usage", "--meter", "tokens_cached", "--format", "json").stdout)

    assert words(table.splitlines()[0]) == ["subject", "model", "tokens_cached"]
    assert words(table.splitlines()[2]) == ["acme", "gpt-5-mini", "64"]
    assert [row["value"] for row in data["data"]] == [64]


def test_usage_of_chosen_subjects_windows_and_groups(run, home):
    """The options narrow and split the question."""
    record(
        home,
        *[
            make_event(
                subject=subject, time=NOON + timedelta(hours=hour), dimensions={"plan": plan}
            )
            for subject, hour, plan in [("a", 0, "x"), ("a", 1, "y"), ("b", 0, "x"), ("c", 0, "x")]
        ],
    )
    question = ["--subject", "a", "--subject", "b", "--window", "HOUR", "--group-by", "plan"]

    done = run("usage", "--meter", "calls_total", *question, "--to", "2026-11-21T14:00:00+01:00")

    assert [
        words(line) for line in done.stdout.partition("\n\n")[0].splitlines() if "─" not in line
    ] == [
        ["hour", "(UTC)", "subject", "plan", "calls_total"],
        ["2026-11-21", "12:00", "a", "x", "1"],
        ["2026-11-21", "12:00", "b", "x", "1"],
        ["total", "2"],
    ]
    assert run("usage", "--subject", "nobody").stdout == "No usage found that fits the question\n"


def test_status_of_a_home(run, home):
    """Pending before the ledger has it, acked after; JSON is the status as it is."""
    record(home, make_event(), make_event(subject="unattributed", flags=("unattributed",)))
    before = json.loads(run("status", "--format", "json").stdout)
    run("usage")
    after = json.loads(run("status", "--format", "json").stdout)
    table = run("status").stdout

    assert [before["recorded"], after["recorded"]] == [2, 2]
    assert [(sink["name"], sink["pending"]) for sink in before["sinks"]] == [("ledger", 2)]
    assert [(sink["acked"], sink["pending"]) for sink in after["sinks"]] == [(2, 0)]
    assert before["sinks"][0]["url"] == "ledger:"
    assert "unattributed 1" in table
    assert ["ledger", "ok", "2", "2", "0", "0", "0", "-"] in map(words, table.splitlines())
    assert table.endswith("recorded = acked + pending + dead + dropped: holds for every sink\n")


@pytest.mark.parametrize("command", ["usage", "status"])
def test_reading_creates_nothing(command, run, home):
    """A home that does not exist is no error, and does not exist afterwards either."""
    missing = home / "missing"

    table = run(command, "--home", missing)
    data = run(command, "--home", missing, "--format", "json")

    assert table.stdout == f"Nothing recorded yet in {missing}\n"
    assert [table.exit_code, data.exit_code] == [0, 0]
    if command == "usage":
        assert json.loads(data.stdout) == {"data": []}
    else:
        assert json.loads(data.stdout)["recorded"] == 0
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("command", ["usage", "status"])
def test_an_empty_home_is_no_error(command, run, home):
    """Before the first call there is nothing to see, and that is what it says."""
    done = run(command)

    assert done.exit_code == 0
    assert done.stdout == f"Nothing recorded yet in {home}\n"


def test_a_home_with_a_ledger_alone_gets_no_journal(run, home):
    """To look at what another user's `ingest` took in makes nothing that an application could not use."""
    with closing(Ledger(home / "ledger.db")) as ledger:
        ledger.deliver(batch_of([make_event(subject="acme")]))

    done = run("usage", "--format", "json")

    assert [row["value"] for row in json.loads(done.stdout)["data"]] == [1200]
    assert "journal" not in {path.name for path in home.iterdir()}


def test_config_shows_where_settings_come_from(run, home, monkeypatch, tmp_path):
    """Argument, environment, file and default are told apart, and secrets are masked."""
    (tmp_path / "llm-metering.toml").write_text('source = "shop"')
    monkeypatch.setenv("LLM_METERING_SINKS", "openmeter+https://me:hush@om.example")
    monkeypatch.setenv("OPENMETER_API_KEY", "hush-hush")
    monkeypatch.setenv("LLM_METERING_SUBJECT_TOKEN_SECRETS", "hush-" * 8)
    monkeypatch.setenv("LLM_METERING_SINK", "misspelt")

    data = run("config", "--format", "json", "--home", tmp_path / "other")
    table = run("config")

    assert json.loads(data.stdout) == {
        "home": {"value": str(tmp_path / "other"), "origin": "argument"},
        "sinks": {
            "value": ["openmeter+https://***@om.example"],
            "origin": "environment LLM_METERING_SINKS",
        },
        "source": {"value": "shop", "origin": f"file {tmp_path / 'llm-metering.toml'}"},
        "subject": {"value": None, "origin": "default"},
        "ledger": {"value": True, "origin": "default"},
        "ledger_keys": {"value": "not set", "origin": "default"},
        "durability": {"value": "process", "origin": "default"},
        "backlog_bytes": {"value": 1 << 30, "origin": "default"},
        "retention_hours": {"value": 72, "origin": "default"},
        "retention_bytes": {"value": 268435456, "origin": "default"},
        "event_type": {"value": None, "origin": "default"},
        "event_id": {"value": "call", "origin": "default"},
        "openmeter_token": {"value": "set", "origin": "environment OPENMETER_API_KEY"},
        "webhook_secret": {"value": "not set", "origin": "default"},
        "webhook_token": {"value": "not set", "origin": "default"},
        "kafka_username": {"value": "not set", "origin": "default"},
        "kafka_password": {"value": "not set", "origin": "default"},
        "kafka_properties": {"value": None, "origin": "default"},
        "stripe_api_key": {"value": "not set", "origin": "default"},
        "lago_api_key": {"value": "not set", "origin": "default"},
        "tokenizer_download": {"value": False, "origin": "default"},
        "taps": {"value": True, "origin": "default"},
        "request_stream_usage": {"value": "auto", "origin": "default"},
        "silent_call_hours": {"value": 1, "origin": "default"},
        "on_missing_subject": {"value": "unattributed", "origin": "default"},
        "subject_keys": {"value": ["llm_metering_subject", "subject"], "origin": "default"},
        "subject_from_metadata": {"value": "trust", "origin": "default"},
        "subject_token_secrets": {
            "value": "set",
            "origin": "environment LLM_METERING_SUBJECT_TOKEN_SECRETS",
        },
        "metadata_dimensions": {"value": [], "origin": "default"},
        "prices": {"value": [], "origin": "default"},
        "price_source": {"value": "auto", "origin": "default"},
        "plans": {"value": None, "origin": "default"},
        "limits": {"value": "auto", "origin": "default"},
        "enforce": {"value": False, "origin": "default"},
        "default_grant": {"value": None, "origin": "default"},
        "requests_per_minute": {"value": None, "origin": "default"},
        "tokens_per_minute": {"value": None, "origin": "default"},
        "reserved_output_tokens": {"value": 1024, "origin": "default"},
        "limit_deadline": {"value": 0.5, "origin": "default"},
        "on_limit_store_error": {"value": "allow", "origin": "default"},
        "limit_slices": {"value": False, "origin": "default"},
        "balance_thresholds": {"value": ["80", "100"], "origin": "default"},
        "features": {"value": [], "origin": "default"},
        "entitlements": {"value": None, "origin": "default"},
        "meters": {"value": [], "origin": "default"},
    }
    assert "LLM_METERING_SINK is set, but there is no such setting\n" in data.stderr
    assert ["home", str(home), "environment", "LLM_METERING_HOME"] in [
        words(line) for line in table.stdout.splitlines()
    ]
    assert "hush" not in table.output + data.output
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        pytest.param(["usage", "--meter", "x"], {}, "unknown meter 'x'", id="meter"),
        pytest.param(["usage", "--from", "noon"], {}, "--from 'noon' is no moment", id="time"),
        pytest.param(
            ["usage"], {"LLM_METERING_LEDGER": "off"}, "switched off (env", id="no ledger"
        ),
        pytest.param(["usage"], {"LLM_METERING_SUBJECT": ""}, "subject: ", id="subject"),
        pytest.param(["status"], {"LLM_METERING_SOURCE": "a\nb"}, "source: ", id="source"),
        pytest.param(["config"], {"LLM_METERING_CONFIG": "/none"}, "config: ", id="file"),
        pytest.param(["status", "--home", "/dev/null"], {}, "home: cannot read", id="no folder"),
        pytest.param(["usage", "--home", "/dev/null/\n"], {}, r"/dev/null/\n: ", id="line break"),
    ],
)
@pytest.mark.parametrize("output", ["table", "json"])
def test_errors_are_one_line(arguments, environment, message, output, run, monkeypatch):
    """What cannot be done ends with exit code 2 and a line on the standard error alone."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    done = run(*arguments, "--format", output)

    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("llm-metering: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [["usage", "--format", "xml"], ["top", "--limit", "0"], ["nothing"], ["usage", "--nope"]],
)
def test_wrong_options_are_usage_errors(arguments, run):
    """An option the command does not know ends with exit code 2 as well."""
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize("package", ["langchain_core", "langchain_openai", "xllamacpp"])
def test_a_missing_extra_is_named(package, home):
    """Without a package of the demo, its command says what to install."""
    # None in that place is the import system's own way to say that a module is not there.
    code = f"import sys; sys.modules[{package!r}] = None; from llm_metering.cli import main; main()"

    done = subprocess.run(
        [sys.executable, "-c", code, "demo"],
        capture_output=True,
        text=True,
        check=False,
        cwd=home.parent,
        # Where the demo makes its home.
        env={**os.environ, "TMPDIR": str(home)},
    )

    assert done.returncode == 2
    assert re.fullmatch(r"llm-metering: .*pip install 'llm-metering\[.*\n", done.stderr)


def test_the_command_of_the_module(home):
    """`python -m llm_metering` works in a pipe: plain, complete, and hostile names are harmless."""
    record(home, make_event(subject=HOSTILE), make_event(subject="long-" * 60))

    done = as_process(home, "usage", FORCE_COLOR="", COLUMNS="40")

    assert (done.returncode, done.stderr) == (0, "")
    assert r"[red]x[/red] \x1b[31m:smile:" in done.stdout
    assert "long-" * 60 in done.stdout
    assert "\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) == 6


def test_json_of_the_module_is_json(home):
    """The standard output of a process is the document and nothing else."""
    record(home, make_event(subject=HOSTILE))

    done = as_process(home, "usage", "--format", "json", "--group-by", "subject")

    assert json.loads(done.stdout)["data"][0]["subject"] == HOSTILE
    assert done.stderr == ""


def test_a_terminal_that_knows_ascii_only(home):
    """Names in other letters are escaped where the terminal cannot show them."""
    record(home, make_event(subject="größe"))

    done = as_process(home, "usage", PYTHONIOENCODING="ascii")

    assert done.returncode == 0
    assert r"gr\xf6\xdfe" in done.stdout


def test_a_reader_that_leaves_early(home):
    """`llm-metering usage | head -1` ends quietly."""
    record(home, *[make_event(subject=f"subject-{number}") for number in range(3000)])
    command = f"{sys.executable} -m llm_metering usage | head -1"

    done = subprocess.run(
        ["sh", "-c", command],
        capture_output=True,
        text=True,
        check=True,
        cwd=home.parent,
        env={**os.environ, "LLM_METERING_HOME": str(home)},
    )

    assert done.stdout.startswith("subject")
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("columns", "tokens", "is_table"),
    [
        pytest.param(80, 12_345_678, True, id="table"),
        pytest.param(80, 12_345_678_901, False, id="large numbers"),
        pytest.param(50, 12_345, False, id="narrow"),
    ],
)
def test_a_narrow_terminal_shows_everything(columns, tokens, is_table, home):
    """What does not fit is wrapped or set in blocks; nothing is cut, nothing runs over."""
    usage = TokenUsage(input_tokens=tokens, output_tokens=1)
    record(home, make_event(subject="x" * 90, usage=usage), make_event(subject=HOSTILE))

    seen = in_terminal(home, "usage", columns=columns, NO_COLOR="1")

    text = re.sub(r"\x1b\[[\d;]*m", "", seen)
    assert "\x1b" not in text
    assert max(map(cell_len, text.splitlines())) <= columns
    assert ("─" in text) == is_table
    for number in (tokens, tokens + 1, tokens + 1000, tokens + 1201):
        assert f"{number:,}" in text
    # 90 of the long name, one of the hostile one, one of its escape.
    assert text.count("x") == 92


def test_colours_are_for_terminals_that_want_them(home):
    """In a terminal notes are coloured, unless NO_COLOR is set."""
    record(home, make_event(provenance="estimated"))
    colour = re.compile(r"\x1b\[[\d;]*3\dm")

    assert colour.search(in_terminal(home, "usage"))
    assert not colour.search(in_terminal(home, "usage", NO_COLOR="1"))


def test_the_version(run):
    """`--version` is the version of the installed package."""
    assert run("--version").stdout == f"llm-metering {version('llm-metering')}\n"


def test_help_needs_nothing_heavy(tmp_path):
    """Help and mistyped options answer without database, HTTP client or framework."""
    code = (
        "import sys; from llm_metering.cli.app import app; app(['--help'], standalone_mode=False);"
        "print(sorted({'sqlite3', 'httpx', 'langchain_core'} & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )

    assert done.stdout.endswith("[]\n")
