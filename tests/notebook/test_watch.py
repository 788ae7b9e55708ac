"""`watch`: a table of usage that is kept up to date."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import llm_metering
from llm_metering import TokenUsage
from llm_metering.errors import InvalidArgumentError, LedgerError, QueryError
from llm_metering.notebook import Watch

USED = TokenUsage(input_tokens=1000, output_tokens=200)


@pytest.fixture
def updates(shell, monkeypatch):
    """What a kernel is shown, each time; `shell` becomes the shell of one."""
    monkeypatch.setattr(type(shell.ipython), "kernel", object(), raising=False)
    shown = []
    seen = threading.Condition()

    def publish(data, metadata=None, *, transient=None, update=False, **_):
        with seen:
            shown.append((update, transient["display_id"], data["text/html"]))
            seen.notify_all()

    monkeypatch.setattr(shell.ipython.display_pub, "publish", publish)

    class Updates(list):
        def until(self, holds):
            """Wait for an update that is so."""
            with seen:
                assert seen.wait_for(lambda: any(holds(each[2]) for each in shown), 30)
            return shown

    return Updates()


def test_table_is_updated_in_place(shell, updates):
    """What is used after it began is in the same display, until it is stopped."""
    llm_metering.record(USED, subject="acme", model="gpt-5")

    first = shell.run("seen = llm_metering.watch(every=0.1)").outputs[0]
    watched = shell.ipython.user_ns["seen"]
    try:
        updates.until(lambda page: "1,200" in page and "looks every 0.1 s" in page)
        llm_metering.record(USED, subject="beta", model="gpt-5")
        shown = updates.until(lambda page: "beta" in page and "2,400" in page)
    finally:
        watched.stop()

    assert {display for _, display, _ in shown} == {first.transient["display_id"]}
    assert all(update for update, _, _ in shown)
    assert "stopped" in shown[-1][2]
    assert not watched.is_running
    assert watched.report.total == 2400


def test_asked_again_the_first_one_stops(shell, updates):
    """A cell that is run again leaves no thread behind."""
    shell.run("first = llm_metering.watch(every=0.1)")
    shell.run("second = llm_metering.watch(every=0.1)")
    shell.run("other = llm_metering.watch('calls_total', every=0.1)")
    names = shell.ipython.user_ns

    assert [names[each].is_running for each in ("first", "second", "other")] == [False, True, True]
    names["second"].stop()
    names["other"].stop()


def test_ledger_that_does_not_answer(shell, updates, default_meter, monkeypatch):
    """What was seen stays, it is said that there is no answer, and it is asked again."""
    llm_metering.record(USED, subject="acme", model="gpt-5")
    shell.run("seen = llm_metering.watch(every=0.1)")
    try:

        def fail(*args, **kwargs):
            raise LedgerError("the ledger <is> locked")

        with monkeypatch.context() as patch:
            patch.setattr(type(default_meter), "usage", fail)
            shown = updates.until(
                lambda page: "no answer now: the ledger &lt;is&gt; locked" in page
            )
            assert "1,200" in shown[-1][2]
        llm_metering.record(USED, subject="acme", model="gpt-5")
        updates.until(lambda page: "2,400" in page and "no answer" not in page)
    finally:
        shell.ipython.user_ns["seen"].stop()


def test_closed_meter_ends_it(shell, updates):
    """It makes no new meter, but says that there is none, and stops."""
    shell.run("seen = llm_metering.watch(every=0.1)")
    llm_metering.close()

    updates.until(lambda page: "the meter is closed" in page and "stopped" in page)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        pytest.param({"meter": "tokens"}, QueryError, id="meter"),
        pytest.param({"window": "WEEK"}, QueryError, id="window"),
        pytest.param({"every": 0}, InvalidArgumentError, id="no time"),
        pytest.param({"every": "2"}, InvalidArgumentError, id="no number"),
        pytest.param({"every": float("nan")}, InvalidArgumentError, id="not a number"),
    ],
)
def test_bad_question_is_refused_at_once(given, error, default_meter):
    """The error comes where the question was asked, and nothing runs."""
    before = threading.active_count()

    with pytest.raises(error):
        llm_metering.watch(**given)

    assert threading.active_count() == before


def test_a_terminal_is_held_until_ctrl_c(home):
    """Outside of a notebook there is a line for each look where no terminal is, and Ctrl-C ends it."""
    program = (
        "import llm_metering\n"
        "llm_metering.record(llm_metering.TokenUsage(input_tokens=5, output_tokens=1), 'acme')\n"
        "seen = llm_metering.watch(every=0.1)\n"
        "print('ended', seen.report.total, flush=True)\n"
    )
    environment = {**os.environ, "LLM_METERING_HOME": str(home)}
    with subprocess.Popen(
        [sys.executable, "-u", "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as child:
        line = child.stdout.readline()
        child.send_signal(signal.SIGINT)
        rest, trouble = child.communicate(timeout=30)

    assert line.strip().endswith("rows=1 tokens_total=6")
    assert (rest.splitlines()[-1], trouble, child.returncode) == ("ended 6", "", 0)


def test_a_terminal_shows_a_table(default_meter):
    """The busiest rows that fit, and how many more there are."""
    from rich.console import Console

    from llm_metering.notebook.terminal import InTerminal

    for place in range(20):
        tokens = TokenUsage(input_tokens=place, output_tokens=0)
        llm_metering.record(tokens, subject=f"s{place}", model="gpt-5")
    shown = InTerminal(Watch(lambda: default_meter.usage(group_by=["subject"]), 1.0))
    shown.look()
    out = Console(width=60, record=True, file=open(os.devnull, "w"))  # noqa: SIM115

    for part in shown.frame(60, 12):
        out.print(part)

    out.file.close()
    lines = out.export_text().splitlines()
    assert lines[0] == "tokens_total (Input and output tokens), all time (UTC)"
    assert [line.split() for line in lines[3:5]] == [["s19", "19"], ["s18", "18"]]
    assert lines[-2].split() == ["total", "190"]
    assert lines[-1] == "and 14 more rows"
    assert len(lines) <= 12


def test_not_in_another_thread_of_a_terminal(default_meter):
    """Ctrl-C is the main thread's: another one says so instead of running for ever."""
    found = []

    def ask():
        try:
            llm_metering.watch()
        except InvalidArgumentError as error:
            found.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()

    assert found == ["in a terminal, watch() is for the main thread, which has Ctrl-C"]


def test_slow_answers_are_asked_for_less(monkeypatch):
    """A look that takes long is followed by a rest four times as long, whatever was asked."""
    waits = []
    watched = Watch(lambda: time.sleep(0.05), 0.1)
    wait = watched._over.wait

    def waited(timeout):
        waits.append(timeout)
        return len(waits) == 3 or wait(0)

    monkeypatch.setattr(watched._over, "wait", waited)
    watched.start(lambda _: None)
    watched._thread.join(30)

    assert waits[0] == 0.1
    assert min(waits[1:]) >= 0.2
