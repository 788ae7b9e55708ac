"""`--watch`: usage while it grows, in a terminal and into a file."""

import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager

import pytest
from rich.cells import cell_len

from llm_metering.ledger import Ledger
from tests.factories import batch_of

from .conftest import make_event, record
from .operating import Site
from .terminals import ALTERNATE, BACK, Terminal, text_of


def deliver(home, *events):
    """Have another process's shipper take events into the ledger."""
    with closing(Ledger(home / "ledger.db")) as ledger:
        assert len(ledger.deliver(batch_of(events)).accepted) == len(events)


def test_growth_is_shown_in_place(home):
    """The table is drawn again where it stands, with what is new; Ctrl-C leaves the last look."""
    deliver(home, make_event())

    with Terminal(home, "usage", "--watch", "--every", "0.2") as terminal:
        terminal.wait_for(r"acme .* 1,200 +1")
        deliver(home, make_event(), make_event(subject="zoo"))
        came, _ = terminal.wait_for(r"zoo .* \+1,200 +\+[\d,]+")
        assert re.search(r"acme .* 2,400 +2 +\+1,200 ", text_of(came))
        assert "+2,400 since the look before" in text_of(came)
        code, rest = terminal.end()

    assert code == 0
    assert ALTERNATE not in rest
    after = text_of(rest.partition(BACK)[2])
    assert re.match(r"llm-metering usage at \d\d:\d\d:\d\d UTC\n", after)
    assert re.search(r"total +3,000 +600 .* 3,600 +3", after)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(number, home):
    """Ctrl-C and SIGTERM end it with exit code 0, and the terminal is as it was."""
    deliver(home, make_event())

    with Terminal(home, "top", "--from", "2026-11", "--watch", "--every", "3600") as terminal:
        before, _ = terminal.wait_for("acme")
        code, rest = terminal.end(number)

    assert code == 0
    whole = before + rest
    assert whole.count(ALTERNATE) == whole.count(BACK) == 1
    assert whole.count("\x1b[?25l") == whole.count("\x1b[?25h")
    assert "Traceback" not in whole


def test_the_window_may_change_its_size(home):
    """Another size is drawn for at once, not at the next look."""
    deliver(home, *(make_event(subject=f"customer-{number:02}") for number in range(40)))

    with Terminal(home, "usage", "--watch", "--every", "3600") as terminal:
        came, found = terminal.wait_for(r"and (\d+) more")
        few = int(found[1])
        assert max(map(cell_len, text_of(came).splitlines())) <= 80
        terminal.resize(140, 40)
        came, found = terminal.wait_for(r"and (\d+) more")

        assert 0 < int(found[1]) < few
        assert re.search(r"customer-\d\d +gpt-5-mini .* 64 +7 +1,200 +1", text_of(came))
        terminal.resize(30, 20)
        came, _ = terminal.wait_for(r"and \d+ more")
        assert max(map(cell_len, text_of(came).splitlines())) <= 30
        assert re.search(r"total +48\.0 k *\n", text_of(came))
        assert terminal.end()[0] == 0


def test_a_ledger_that_is_locked_or_gone(home):
    """What was seen stays, with the reason, until there is an answer again."""
    deliver(home, make_event())
    path = home / "ledger.db"

    with Terminal(home, "usage", "--watch", "--every", "0.2", columns=120) as terminal:
        terminal.wait_for(r"total .* 1,200 +1")
        away = home / "away"
        away.mkdir()
        files = [each for each in home.iterdir() if each.name.startswith("ledger.db")]
        for each in files:
            each.rename(away / each.name)
        came, _ = terminal.wait_for(
            r"no answer now; what is below is old: [\s\S]*not\s+there\s+any\s+more"
        )
        came, _ = terminal.wait_for(r"total .* 1,200 +1")
        for each in files:
            (away / each.name).rename(each)
        deliver(home, make_event())
        came, _ = terminal.wait_for(r"total .* 2,400 +2 +\+1,200")
        assert "is old" not in text_of(came).rpartition("llm-metering usage")[2]
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            # A database out of WAL mode is locked against readers, too.
            other.execute("PRAGMA journal_mode = DELETE")
            other.execute("BEGIN EXCLUSIVE")
            terminal.wait_for(r"is old: another\s+process\s+keeps\s+the\s+ledger\s+locked")
            other.execute("ROLLBACK")
        deliver(home, make_event())
        terminal.wait_for(r"total .* 3,600 +3 +\+1,200")
        assert terminal.end()[0] == 0


def test_it_waits_for_the_first_call(home):
    """Where nothing was recorded yet it makes nothing, and shows the first call when it is there."""
    missing = home / "new"

    with Terminal(missing, "usage", "--watch", "--every", "0.2") as terminal:
        terminal.wait_for("Nothing recorded yet")
        assert not missing.exists()
        missing.mkdir(mode=0o700)
        record(missing, make_event())
        terminal.wait_for(r"total .* 1,200 +1")
        assert terminal.end()[0] == 0


@contextmanager
def into_a_pipe(home, *arguments):
    """Run a command with its output in a pipe."""
    site = Site(home)
    with subprocess.Popen(
        [sys.executable, "-m", "llm_metering", *arguments],
        env=site.environment,
        cwd=home.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_line_for_each_look(home):
    """Into a pipe it writes a plain line for each look, at once, also while processes record."""
    with into_a_pipe(home, "usage", "--watch", "--every", "0.2") as process:
        assert re.fullmatch(r"\S+Z groups=0\n", process.stdout.readline())
        with Site(home).application(3, how="flushed"):
            while "calls_total=3" not in (line := process.stdout.readline()):
                assert line
        assert re.fullmatch(
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ groups=1 tokens_total=33 calls_total=3 "
            r"change=\+\d+ per_minute=\d+\n",
            line,
        )
        deliver(home, make_event(subject="zoo"))
        while "groups=2 tokens_total=1233" not in (line := process.stdout.readline()):
            assert line
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)

    assert (process.returncode, errors) == (0, "")
    assert "\x1b" not in rest


def test_trouble_in_a_line(home):
    """A look that fails is a line as well."""
    deliver(home, make_event())

    with into_a_pipe(home, "top", "--from", "2026-11", "--watch", "--every", "0.2") as process:
        line = process.stdout.readline()
        assert re.fullmatch(r'\S+Z tokens_total=1200 calls=1 first="acme" value=1200\n', line)
        (home / "ledger.db").rename(home / "away.db")
        while "trouble: " not in (line := process.stdout.readline()):
            assert line
        assert line.endswith("ledger.db is not there any more\n")


def test_a_question_that_makes_no_sense_ends_it(run):
    """Bad input is refused before anything is drawn."""
    done = run("usage", "--watch", "--meter", "x")

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert run("usage", "--watch", "--every", "0").exit_code == 2


def test_looking_leaks_nothing(home):
    """After many looks a process has as many files open as after a few."""
    deliver(home, make_event())
    counting = """
        import os, sys
        from llm_metering.cli.usage.watched import WatchedUsage

        looks, before = 0, WatchedUsage.look

        def look(self):
            global looks
            before(self)
            looks += 1
            if looks in (5, 35):
                print("files", len(os.listdir("/proc/self/fd")), flush=True)

        WatchedUsage.look = look
        from llm_metering.cli import main
        main()
        """
    code = "\n".join(line.removeprefix(" " * 8) for line in counting.splitlines())
    site = Site(home)
    with subprocess.Popen(
        [sys.executable, "-c", code, "usage", "--watch", "--every", "0.1"],
        env=site.environment,
        cwd=home.parent,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            found = []
            while len(found) < 2:
                line = process.stdout.readline()
                assert line
                if line.startswith("files"):
                    found.append(line)
        finally:
            process.kill()

    assert found[0] == found[1]


def test_json_is_not_watched(run):
    """A program asks again by itself."""
    done = run("top", "--watch", "--format", "json")

    assert done.exit_code == 2
    assert done.stderr == (
        "llm-metering: --format json is for programs; leave out --watch and --human\n"
    )
