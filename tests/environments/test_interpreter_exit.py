"""How a process may end: what is known by then is shipped, or on disk for the next process."""

from __future__ import annotations

import pytest

from tests.transport.harness import ids_on_disk, run_child

from .children import PRELUDE, assert_all_counted, sent

ENDS = [
    pytest.param("", 0, id="return"),
    pytest.param("sys.exit(3)", 3, id="sys.exit"),
    pytest.param("raise ValueError('as it does')", 1, id="exception"),
    pytest.param(
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try: os.kill(os.getpid(), signal.SIGINT); time.sleep(30)\n"
        "except KeyboardInterrupt: sys.exit(130)",
        130,
        id="SIGINT",
    ),
    pytest.param(
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(4)); os.kill(os.getpid(), signal.SIGTERM)",
        4,
        id="SIGTERM with a handler",
    ),
    pytest.param("asyncio.run(asyncio.sleep(0))", 0, id="a loop just closed"),
    pytest.param("asyncio.run(meter.aflush()); meter_call()", 0, id="aflush and more"),
    pytest.param(
        "threading.Thread(target=lambda: (time.sleep(0.2), meter_call())).start()",
        0,
        id="a thread that ends later",
    ),
    pytest.param("atexit.register(meter_call)", 0, id="a handler of the application's"),
]

SUDDEN_ENDS = [
    pytest.param("os._exit(5)", 5, id="os._exit"),
    pytest.param("os.kill(os.getpid(), signal.SIGTERM)", -15, id="SIGTERM without a handler"),
    pytest.param("os.kill(os.getpid(), signal.SIGKILL)", -9, id="SIGKILL"),
    pytest.param("os.abort()", -6, id="abort"),
    pytest.param("os.execv('/bin/true', ['true'])", 0, id="exec"),
]

CHILD = f"""
{PRELUDE}
import asyncio, atexit, threading, time
meter = llm_metering.get_meter()
meter_call()
meter_call()
"""


def end_of(code: str) -> tuple[int, list[str], str]:
    """How a child ends: its status, what it printed, and its complaints."""
    child = run_child(CHILD + code)
    stdout, stderr = child.communicate(timeout=60)
    return child.returncode, stdout.split(), stderr


@pytest.mark.parametrize(("end", "status"), ENDS)
def test_an_orderly_end_ships(home, server, end, status):
    """However an interpreter comes to its end, what was recorded is with its sinks by then."""
    returned, ids, stderr = end_of(end)

    assert returned == status
    assert "llm_metering" not in stderr
    assert sorted(sent(server)) == sorted(ids)
    assert ids_on_disk(home) == []
    assert_all_counted(home, server, ids)


@pytest.mark.parametrize(("end", "status"), SUDDEN_ENDS)
def test_a_sudden_end_loses_nothing(home, server, end, status):
    """Where no hook runs, each event is on disk, and the next process ships it."""
    returned, ids, _ = end_of(end)

    assert returned == status
    assert len(ids) == 2
    assert_all_counted(home, server, ids)


def test_what_is_recorded_after_our_own_end_is_on_disk(home, server):
    """A handler that was registered before ours runs after it; its event waits for the next process."""
    code = f"""
import atexit
def late():
    from tests.environments.children import meter_call
    meter_call()
atexit.register(late)
{CHILD}
"""
    child = run_child(code)
    stdout, stderr = child.communicate(timeout=60)
    ids = stdout.split()

    assert (child.returncode, stderr, len(ids)) == (0, "", 3)
    assert ids_on_disk(home) == ids[2:]
    assert_all_counted(home, server, ids)


@pytest.mark.parametrize("sinks", ["", "memory:"], ids=["the ledger alone", "another sink"])
@pytest.mark.parametrize("what", ["usage", "text"])
def test_a_thread_that_goes_on_recording_does_not_hold_up_the_end(monkeypatch, what, sinks):
    """The end waits for what was recorded when it began, however long it might wait."""
    monkeypatch.setenv("LLM_METERING_SINKS", sinks)
    child = run_child(f"""{CHILD}
from llm_metering import at_exit
at_exit.EXIT_TIMEOUT = 3600.0
enough = threading.Event()
response = {{"object": "chat.completion", "model": "none-known", "choices": [
    {{"index": 0, "finish_reason": "stop", "message": {{"role": "assistant", "content": "Yes. " * 9}}}}
]}}
def work():
    while True:
        if {what == "usage"}:
            llm_metering.record(llm_metering.TokenUsage(input_tokens=1), "customer-42")
        else:
            llm_metering.record(dict(response), "customer-42")
        if meter._journal.recorded > 50:
            enough.set()
        time.sleep(0.0005)  # a loop without a pause leaves a counting thread little of the interpreter
threading.Thread(target=work, daemon=True).start()
enough.wait()
""")
    _, stderr = child.communicate(timeout=60)

    assert child.returncode == 0, stderr
    assert "Traceback" not in stderr


def test_an_interpreter_without_room_for_threads_ships_at_its_end(home, server):
    """Where no thread of ours could be started, the end ships by itself."""
    returned, ids, _ = end_of("""
def refuse(self):
    raise RuntimeError("can't start new thread")
meter.flush()
llm_metering.configure()
threading.Thread.start = refuse
meter_call()
""")

    assert returned == 0
    assert len(ids) == 3
    assert sorted(sent(server)) == sorted(ids)
    assert_all_counted(home, server, ids)
