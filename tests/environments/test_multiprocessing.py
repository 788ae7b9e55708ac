"""`multiprocessing` and forks: what children recorded, they ship; what they could not, another does."""

from __future__ import annotations

import os
import signal

import pytest

from llm_metering import at_exit
from llm_metering.testing.faults import Hang
from llm_metering.transport.status import home_status
from tests.transport.harness import ids_on_disk, run_child

from .children import PRELUDE, assert_all_counted, eventually, sent

PARENT = f"""
{PRELUDE}
import multiprocessing, warnings
from concurrent.futures import ProcessPoolExecutor
from tests.environments.children import meter_calls
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
context = multiprocessing.get_context(sys.argv[1])
"""

PROCESS = """
children = [context.Process(target=meter_calls, args=(3,)) for _ in range(2)]
for child in children: child.start()
for child in children: child.join()
"""
EXECUTOR = """
with ProcessPoolExecutor(2, mp_context=context) as pool:
    list(pool.map(meter_calls, [3, 3]))
"""
POOL = """
pool = context.Pool(2)
pool.map(meter_calls, [3, 3], chunksize=1)
pool.close()
pool.join()
"""
TERMINATED_POOL = """
with context.Pool(2) as pool:
    pool.map(meter_calls, [3, 3], chunksize=1)
"""


def finished(code: str, *arguments: object, status: int = 0) -> list[str]:
    """What a child prints that ends with this status and complains of nothing."""
    child = run_child(code, *arguments)
    stdout, stderr = child.communicate(timeout=60)
    assert (child.returncode, stderr) == (status, "")
    return stdout.split()


@pytest.mark.parametrize(
    ("method", "way"),
    [
        pytest.param("fork", PROCESS, id="Process fork"),
        pytest.param("spawn", PROCESS, id="Process spawn"),
        pytest.param("forkserver", PROCESS, id="Process forkserver"),
        pytest.param("fork", EXECUTOR, id="ProcessPoolExecutor fork"),
        pytest.param("fork", POOL, id="Pool fork"),
        pytest.param("forkserver", POOL, id="Pool forkserver"),
    ],
)
def test_children_ship_before_they_go(home, server, method, way):
    """Nobody has to flush or adopt: when the children have ended, what they recorded is shipped.

    The parent has recorded as well, before and after, and forks with a meter in use.
    """
    ids = finished(f"{PARENT}\nmeter_call()\n{way}\nmeter_call()", method)

    assert len(ids) == 8
    assert sorted(sent(server)) == sorted(ids)
    assert_all_counted(home, server, ids)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_what_terminated_workers_recorded_is_adopted(home, server, method):
    """The workers of a `Pool` are killed at the end of its block; their events are on disk."""
    ids = finished(f"{PARENT}\n{TERMINATED_POOL}", method)

    assert len(ids) == 6
    assert_all_counted(home, server, ids)


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_child_ends_though_its_sink_hangs(home, server, method):
    """It is held up for the exit timeout and no longer, and its events wait on disk."""
    server.order(Hang(), times=None)
    code = f"""{PARENT}
from tests.environments import children
child = context.Process(target=children.meter_hastily)
child.start()
child.join()
os._exit(0)  # the parent's own end is none of this
"""
    ids = finished(code, method)
    server.clear()
    server.release()

    assert ids == ids_on_disk(home)
    assert_all_counted(home, server, ids)


def test_a_child_that_is_no_child_of_multiprocessing_registers_nothing(monkeypatch):
    """Where `multiprocessing` was not used there is no finalizer to leave behind."""
    from multiprocessing import util

    before = dict(util._finalizer_registry)
    at_exit._child_exit.prepare()

    assert util._finalizer_registry == before


FORKED = f"""
{PRELUDE}
import signal, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)
meter = llm_metering.get_meter()
meter.calls  # and whatever else it makes when it is asked
"""


def test_a_child_holds_nothing_of_its_parents_and_outlives_it(home, server):
    """The child has no file of the home open, so that what its killed parent left can be shipped.

    The parent was killed with a call in flight and with events its sink had not taken.
    """
    server.down()
    code = f"""{FORKED}
from tests.metering import start
start(meter, "in flight")
meter_call()
meter.flush(0.5)
if os.fork() == 0:
    print(os.getpid(), flush=True)
time.sleep(60)
"""
    parent = run_child(code)
    event_id = parent.stdout.readline().strip()
    child = int(parent.stdout.readline())
    try:
        opened = [
            os.readlink(f"/proc/{child}/fd/{each}") for each in os.listdir(f"/proc/{child}/fd")
        ]
        assert [path for path in opened if path.startswith(str(home))] == []
        parent.kill()
        parent.wait()
        server.up()
        os.kill(child, 0)  # it lives
        (interrupted,) = {*ids_after_drain(home, server)} - {event_id}
        assert interrupted
    finally:
        os.kill(child, signal.SIGKILL)
        parent.communicate()


def ids_after_drain(home, server):
    """Drain the home; what the server counts then."""
    from llm_metering import Meter

    with Meter(home, [server.sink_url], source="tests") as heir:
        assert heir.drain(30)
    return [event["id"] for event in server.events]


def test_a_fork_while_threads_record_and_ship(home, server):
    """Whatever the parent's threads were at, a child records, ships and ends."""
    code = f"""{FORKED}
import threading
stop = threading.Event()
def work():
    while not stop.is_set():
        meter_call()
        time.sleep(0.001)
for _ in range(2):
    threading.Thread(target=work).start()
statuses = []
for _ in range(15):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        meter_call()
        os._exit(not meter.flush(15))
    statuses.append(os.waitpid(child, 0)[1])
stop.set()
sys.exit(any(statuses))
"""
    ids = finished(code)

    assert_all_counted(home, server, ids)


@pytest.mark.parametrize("used", [True, False], ids=["meter in use", "meter not used yet"])
def test_a_fork_in_c_is_noticed(home, server, used):
    """As uWSGI forks, without Python's hooks: each process ships its own, once.

    With the ledger open at the fork the child leaves it alone; whoever comes next fills it.
    """
    code = f"""{FORKED}
import ctypes
if {used}:
    meter_call()
    assert meter.flush()
    while not meter._journal._syncer.is_idle:  # its thread is at rest: C forks beside no busy thread
        time.sleep(0.01)
    time.sleep(0.1)
child = ctypes.PyDLL(None).fork()
if child == 0:
    signal.alarm(20)
    meter_call()
    meter.flush(1)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
meter_call()
"""
    child = run_child(code)
    stdout, stderr = child.communicate(timeout=60)
    ids = stdout.split()

    assert child.returncode == 0
    assert ("forked while the ledger was open" in stderr) == used
    assert len(ids) == 2 + used
    assert sorted(sent(server)) == sorted(ids)
    assert_all_counted(home, server, ids)


def test_a_child_that_outlives_its_parent_goes_on(home, server):
    """A daemonised child records and ships as if its parent were there."""
    code = f"""{FORKED}
meter_call()
parent = os.getpid()
if os.fork() != 0:
    os._exit(0)
os.setsid()
while os.getppid() == parent:
    time.sleep(0.01)
meter_call()
meter_call()
"""
    child = run_child(code)
    stdout, _ = child.communicate(timeout=60)  # until the daemon has ended as well
    ids = stdout.split()

    eventually(lambda: len(server.events) >= 2)
    assert len(ids) == 3
    assert set(ids[1:]) <= set(sent(server))
    assert_all_counted(home, server, ids)
    assert home_status(home)["recorded"] == 3
