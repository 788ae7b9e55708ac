"""The sink of JSON lines: what is in the file, whatever becomes of the writer, the disk or the name."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_metering import Meter, TokenUsage, system
from llm_metering.errors import SinkURLError
from llm_metering.events import CloudEvent
from llm_metering.sinks import Delivery, Envelope, open_sink
from llm_metering.sinks.jsonl import JSONLinesSink, files, read_events, reading
from llm_metering.sinks.jsonl.files import LineFile, rotated_files
from tests.factories import batch_of, envelope_of, make_event

FULL = os.strerror(errno.ENOSPC)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()


@pytest.fixture
def path(tmp_path) -> Path:
    """Where the file goes; its folder is not there yet."""
    return tmp_path / "usage" / "usage.jsonl"


def ids_in(*paths, **options) -> list[str]:
    """The ids that a reader finds, in order."""
    return [event.id for event in read_events(*paths, **options)]


def ids_of(batch) -> list[str]:
    return [envelope.id for envelope in batch]


def test_an_event_is_a_line(path):
    """Each line is a CloudEvent as it was recorded, and ends with a line break."""
    batch = batch_of([make_event(subject="Zoë"), make_event(model="a\nb\u2028c")])

    assert JSONLinesSink(path).deliver(batch) == Delivery.all_accepted(batch)

    assert path.read_bytes() == b"".join(each.payload + b"\n" for each in batch)
    assert [json.loads(line)["id"] for line in path.read_bytes().splitlines()] == ids_of(batch)


def test_an_event_with_line_breaks_becomes_one_line(path):
    """What came from elsewhere, spread over lines, is written on one; its strings stay as they are."""
    event = make_event(model="a  b")
    spread = json.dumps(json.loads(envelope_of(event).payload), indent=2).encode()

    assert JSONLinesSink(path).deliver([Envelope(event.id, spread)]).accepted

    [line] = path.read_bytes().splitlines()
    assert json.loads(line) == json.loads(spread)


def test_nobody_else_may_read_it(path):
    """The file and the folders that were made for it are their owner's."""
    JSONLinesSink(path).deliver(batch_of([make_event()]))

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_it_is_on_the_medium_before_it_is_accepted(path):
    """Accepted is what a loss of power leaves; when the medium fails, nothing is accepted."""
    synced: list[int] = []
    file = LineFile(path, max_bytes=1 << 20, sync=lambda fd: synced.append(os.fstat(fd).st_size))

    assert file.append([b"{}", b"{}"]).lines == 2
    assert synced == [6]

    def broken(_descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    appended = LineFile(path, max_bytes=1 << 20, sync=broken).append([b"{}"])
    assert (appended.lines, appended.unsure) == (0, True)
    assert appended.error.errno == errno.EIO


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_torn_line_is_ended_and_left_alone(path, cut):
    """A crash left part of a line: it stays what it is, and the next event has a line of its own."""
    first, torn, second = batch_of([make_event() for _ in range(3)])
    sink = JSONLinesSink(path)
    sink.deliver([first])
    before = path.read_bytes() + torn.payload[:cut]
    path.write_bytes(before)

    assert sink.deliver([second]).accepted

    assert path.read_bytes() == before + b"\n" + second.payload + b"\n"
    reader = read_events(path)
    assert [event.id for event in reader] == [first.id, second.id]
    assert (reader.read, reader.repeated, reader.passed_over) == (2, 0, 1)


BATCH = [envelope_of(make_event(id=f"event-{number}")) for number in range(3)]
WHOLE = b"".join(each.payload + b"\n" for each in BATCH)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, len(WHOLE)), noise=st.binary(max_size=20))
def test_whatever_a_crash_leaves_costs_no_event_behind_it(tmp_path, cut, noise):
    """At every byte: what was written before and after is read, each event once."""
    path = tmp_path / "usage.jsonl"
    path.write_bytes(WHOLE[:cut] + noise.replace(b"{", b"").replace(b"\n", b""))

    assert JSONLinesSink(path).deliver(BATCH) == Delivery.all_accepted(BATCH)

    reader = read_events(path)
    assert [event.id for event in reader] == ids_of(BATCH)
    assert reader.read + reader.repeated + reader.passed_over == sum(
        bool(line.strip()) for line in path.read_bytes().split(b"\n")
    )


def test_blank_space_of_a_lost_block_is_passed_over(path):
    """Some file systems leave zeros after a loss of power."""
    sink = JSONLinesSink(path)
    first, second = batch_of([make_event(), make_event()])
    sink.deliver([first])
    with path.open("ab") as file:
        file.write(bytes(5000))

    assert sink.deliver([second]).accepted

    reader = read_events(path)
    assert [event.id for event in reader] == [first.id, second.id]
    assert reader.passed_over == 1


def limited(size: int, work: str) -> str:
    """Run `work` in a process whose files may not grow beyond `size`; what it printed."""
    code = (
        "import resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, resource.RLIM_INFINITY))\n" + work
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_full_disk_keeps_whole_lines_and_takes_the_rest_later(path):
    """What fitted as whole lines is accepted, the torn one is cut off, the others come again."""
    batch = [envelope_of(make_event(id=f"event-{number}")) for number in range(5)]
    line = len(batch[0].payload) + 1
    path.parent.mkdir()
    path.write_bytes(b"")
    told = limited(
        3 * line - 10,
        f"""
from pathlib import Path
from llm_metering.sinks.jsonl import JSONLinesSink
from tests.factories import envelope_of, make_event
batch = [envelope_of(make_event(id=f"event-{{n}}")) for n in range(5)]
sink = JSONLinesSink(Path({str(path)!r}))
first = sink.deliver(batch)
print(sorted(first.accepted), sorted(first.retryable), first.hold, first.reason)
second = sink.deliver(batch[2:])
print(sorted(second.accepted), sorted(second.retryable), second.hold, second.ambiguous)
""",
    )

    assert told.splitlines() == [
        f"['event-0', 'event-1'] ['event-2', 'event-3', 'event-4'] False {path}: {FULL}",
        "[] ['event-2', 'event-3', 'event-4'] False False",
    ]
    assert len(path.read_bytes()) == 2 * line
    assert JSONLinesSink(path).deliver(batch[2:]).accepted
    reader = read_events(path)
    assert [event.id for event in reader] == ids_of(batch)
    assert (reader.repeated, reader.passed_over) == (0, 0)


WRITER = """
import sys
from pathlib import Path
from llm_metering.sinks.jsonl import JSONLinesSink
from tests.factories import envelope_of, make_event
path, name, max_bytes, batches = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
sink = JSONLinesSink(path, max_bytes=max_bytes)
for number in range(batches):
    batch = [envelope_of(make_event(id=f"{name}-{number}-{n}")) for n in range(20)]
    while batch:
        delivery = sink.deliver(batch)
        assert not delivery.rejected and not delivery.hold, delivery
        print(*sorted(delivery.accepted), flush=True)
        batch = [each for each in batch if each.id in delivery.retryable]
"""


def writer(path: Path, name: str, *, max_bytes: int = 1 << 30, batches: int = 1 << 30):
    """A process that writes batches of twenty and prints what was accepted."""
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, path, name, str(max_bytes), str(batches)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_killed_writer_loses_nothing_that_it_said_it_had(path):
    """kill -9 again and again, two at a time, in rotation too: what was accepted is in the files."""
    accepted: list[str] = []
    for round_ in range(4):
        writers = [writer(path, f"{side}{round_}", max_bytes=60_000) for side in ("left", "right")]
        for each in writers:
            # A different moment of a batch each time.
            for _ in range(7 + 5 * round_):
                accepted += each.stdout.readline().split()
        for each in writers:
            each.send_signal(signal.SIGKILL)
        for each in writers:
            with each:
                accepted += each.stdout.read().split()

    reader = read_events(path)
    found = Counter(event.id for event in reader)
    assert found.keys() >= set(accepted)
    assert set(found.values()) == {1}
    # Not more than each of the writers' last line can be torn.
    assert reader.passed_over <= 8
    assert len(rotated_files(path)) > 2
    assert max(each.stat().st_size for each in rotated_files(path)) <= 60_000


def test_two_writers_share_a_file_that_is_rotated(path):
    """Every event is there exactly once, each file is full but within its bound, none is torn."""
    writers = [
        writer(path, name, max_bytes=40_000, batches=60) for name in ("left", "right", "third")
    ]
    accepted = [event_id for each in writers for event_id in each.communicate()[0].split()]

    assert [each.returncode for each in writers] == [0, 0, 0]
    assert Counter(ids_in(path, dedupe=False)) == Counter(accepted)
    assert len(accepted) == 3 * 60 * 20
    sizes = [each.stat().st_size for each in rotated_files(path)]
    assert len(sizes) > 10
    assert 20_000 < min(sizes) <= max(sizes) <= 40_000


def test_a_file_that_was_renamed_is_begun_anew(path):
    """As logrotate does without `copytruncate`: the old file is left, the new one takes the rest."""
    sink = JSONLinesSink(path)
    first, second = batch_of([make_event(), make_event()])
    sink.deliver([first])
    path.rename(path.with_name("usage.jsonl.1"))

    sink.deliver([second])

    assert ids_in(path) == [second.id]
    assert ids_in(path.with_name("usage.jsonl.1"), path) == [first.id, second.id]


def test_a_rename_between_opening_and_writing_is_noticed(path, monkeypatch):
    """The lock was waited for while somebody renamed the file: the line goes into the new one."""
    first, second = batch_of([make_event(), make_event()])
    sink = JSONLinesSink(path)
    sink.deliver([first])
    lock_file = system.lock_file

    def slow(*arguments, **options):
        descriptor = lock_file(*arguments, **options)
        monkeypatch.setattr(system, "lock_file", lock_file)
        path.rename(path.with_name("old"))
        return descriptor

    monkeypatch.setattr(system, "lock_file", slow)
    assert sink.deliver([second]).accepted

    assert ids_in(path) == [second.id]
    assert ids_in(path.with_name("old")) == [first.id]


def test_a_file_that_is_deleted_while_it_is_written_accepts_nothing(path):
    """What nobody can read any more is written again."""

    def delete(_descriptor):
        path.unlink()

    appended = LineFile(path, max_bytes=1 << 20, sync=delete).append([b"{}"])

    assert (appended.lines, appended.unsure) == (0, True)
    assert LineFile(path, max_bytes=1 << 20).append([b"{}"]).lines == 1


def test_a_file_of_its_own_for_each_day(path):
    """With `every=day` a line of the next day begins a new file, and one of the same day does not."""
    now = [NOON]
    file = LineFile(path, max_bytes=1 << 20, every="day", clock=lambda: now[0])
    for line in (b'"first"', b'"second"'):
        file.append([line])
        os.utime(path, (now[0], now[0]))
        now[0] += 3600
    now[0] = NOON + 86400

    file.append([b'"third"'])

    [old] = rotated_files(path)
    assert old.name == "usage.20261123T120000Z-000001.jsonl"
    assert (old.read_bytes(), path.read_bytes()) == (b'"first"\n"second"\n', b'"third"\n')


def test_a_clock_that_is_set_back_ends_no_period(path):
    """An hour that comes again goes on in the same file."""
    now = [NOON]
    file = LineFile(path, max_bytes=1 << 20, every="hour", clock=lambda: now[0])
    for line in (b'"first"', b'"second"'):
        file.append([line])
        os.utime(path, (now[0], now[0]))
        now[0] -= 3600

    assert rotated_files(path) == []
    assert path.read_bytes() == b'"first"\n"second"\n'


def test_names_go_on_in_order_when_the_clock_is_set_back(path):
    """A reader reads what was written first first."""
    now = [NOON + 7200]
    file = LineFile(path, max_bytes=10, every="hour", clock=lambda: now[0])
    for number in range(4):
        file.append([b'"line %d"' % number])
        os.utime(path, (now[0], now[0]))
        now[0] -= 3600

    names = [each.name for each in rotated_files(path)]
    assert names == [f"usage.20261122T{time}Z-{n:06}.jsonl" for time, n in NAMES]
    assert [each.read_bytes() for each in rotated_files(path)] == [
        b'"line %d"\n' % number for number in range(3)
    ]


NAMES = [("130000", 1), ("130000", 2), ("130000", 3)]


def test_only_keep_deletes(path):
    """Without it every rotated file stays; with it the newest do, and nothing else is touched."""
    for keep, left in ((None, 6), (2, 2)):
        file = LineFile(path, max_bytes=10, keep=keep)
        bystander = path.with_name("usage.20261122T120000Z.jsonl")
        for number in range(7 if keep is None else 1):
            file.append([b'"line %d"' % number])
        bystander.write_text("mine")

        assert len(rotated_files(path)) == left
        assert bystander.read_text() == "mine"
    assert rotated_files(path)[-1].read_bytes() == b'"line 6"\n'


def test_a_torn_line_is_ended_before_its_file_is_rotated(path):
    """`cat` of all files gives whole lines."""
    file = LineFile(path, max_bytes=20)
    file.append([b'"first"'])
    with path.open("ab") as torn:
        torn.write(b'{"torn')

    file.append([b'"a second line"'])

    [old] = rotated_files(path)
    assert old.read_bytes() + path.read_bytes() == b'"first"\n{"torn\n"a second line"\n'


def test_the_next_file_may_be_read_by_whom_the_last_one_could(path):
    """Who gave a log shipper the right to read goes on having given it."""
    file = LineFile(path, max_bytes=10)
    file.append([b'"line 1"'])
    path.chmod(0o640)

    file.append([b'"line 2"'])

    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_so_may_a_file_that_another_writer_made_first(path, monkeypatch):
    """Between the renaming and the new file somebody opened the name: its mode is passed on, too."""
    file = LineFile(path, max_bytes=10)
    file.append([b'"line 1"'])
    path.chmod(0o640)
    rename = os.rename

    def rename_and_be_late(old, new):
        rename(old, new)
        system.unlock_file(system.lock_file(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename_and_be_late)
        file.append([b'"line 2"'])

    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_file_that_cannot_be_rotated_says_so(path, monkeypatch):
    """Its folder takes no new name: held, and nothing is written beyond the bound."""
    sink = JSONLinesSink(path, max_bytes=500)
    first, second = batch_of([make_event(), make_event()])
    sink.deliver([first])
    before = path.read_bytes()

    def refuse(*_names):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        delivery = sink.deliver([second])

    reason = f"{path}: it cannot be renamed to rotate it: {os.strerror(errno.EACCES)}"
    assert delivery == Delivery.try_later([second], reason, hold=True)
    assert path.read_bytes() == before
    assert sink.deliver([second]).accepted
    assert ids_in(path) == [first.id, second.id]


def test_a_symbolic_link_is_followed_and_stays(path, tmp_path):
    """The file that it names is written and rotated, and read through it."""
    link = tmp_path / "link.jsonl"
    link.symlink_to(path)
    batch = batch_of([make_event() for _ in range(3)])
    sink = JSONLinesSink(link, max_bytes=len(batch[0].payload) + 1)

    for each in batch:
        assert sink.deliver([each]).accepted

    assert link.is_symlink()
    assert len(rotated_files(path)) == 2
    assert ids_in(link) == ids_of(batch)


def test_a_lock_that_is_held_is_waited_for_no_longer_than_that(path, monkeypatch):
    """A writer that was stopped holds up nothing but its file: the events are offered again."""
    monkeypatch.setattr(files, "LOCK_WAIT", 0.05)
    sink, batch = JSONLinesSink(path), batch_of([make_event()])
    sink.deliver(batch_of([make_event()]))
    lock = system.lock_file(path)

    busy = sink.deliver(batch)
    system.unlock_file(lock)

    assert busy == Delivery.try_later(batch, f"{path}: another process holds its lock")
    assert sink.deliver(batch).accepted


@pytest.mark.parametrize(
    ("number", "hold"),
    [
        pytest.param(errno.ENOLCK, False, id="the server has no locks left"),
        pytest.param(errno.EOPNOTSUPP, True, id="the file system has none"),
    ],
)
def test_a_file_system_without_locks_is_told_from_a_lock_that_is_held(
    path, monkeypatch, number, hold
):
    """Nobody looks for a process that does not exist, and no delivery waits for it."""

    def refuse(_descriptor, _operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(system.locks.fcntl, "flock", refuse)
    batch = batch_of([make_event()])

    delivery = JSONLinesSink(path).deliver(batch)

    assert delivery == Delivery.try_later(batch, f"{path}: {os.strerror(number)}", hold=hold)


def folder(path):
    path.mkdir(parents=True)


def file_as_folder(path):
    path.parent.write_text("")


def fifo(path):
    path.parent.mkdir()
    os.mkfifo(path)


def loop(path):
    path.parent.mkdir()
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("arrange", "reason"),
    [
        pytest.param(folder, os.strerror(errno.EISDIR), id="a folder"),
        pytest.param(file_as_folder, os.strerror(errno.ENOTDIR), id="a file for a folder"),
        pytest.param(fifo, "it is no file to append to", id="a pipe"),
        pytest.param(loop, os.strerror(errno.ELOOP), id="a loop of links"),
    ],
)
def test_what_only_a_person_can_mend_is_held(path, arrange, reason):
    """The sink pauses and says why; nothing is lost."""
    arrange(path)
    batch = batch_of([make_event()])

    delivery = JSONLinesSink(path).deliver(batch)

    assert delivery == Delivery.try_later(batch, f"{path}: {reason}", hold=True)


@pytest.mark.parametrize(
    ("number", "hold"),
    [
        *(pytest.param(getattr(errno, name), True, id=name) for name in ("EACCES", "EROFS")),
        *(
            pytest.param(getattr(errno, name), False, id=name)
            for name in ("ENOSPC", "EDQUOT", "EIO", "EMFILE", "ESTALE")
        ),
    ],
)
def test_errors_that_pass_are_retried(path, monkeypatch, number, hold):
    """A full or sick disk gets well by itself or not; rights and mounts do not."""

    def fail(*_arguments, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(system, "lock_file", fail)
    batch = batch_of([make_event()])

    delivery = JSONLinesSink(path).deliver(batch)

    assert delivery == Delivery.try_later(batch, f"{path}: {os.strerror(number)}", hold=hold)


def test_a_user_without_rights_is_told_so(path):
    """A process of another user finds a file that is not its own: held, with the reason."""
    path.parent.mkdir()
    path.touch()
    path.parent.chmod(0o700)
    code = f"""
import os
from pathlib import Path
from llm_metering.sinks.jsonl import JSONLinesSink
from tests.factories import batch_of, make_event
batch = batch_of([make_event()])
sink = JSONLinesSink(Path({str(path)!r}))
if os.geteuid() == 0:
    os.setuid(65534)
else:
    os.chmod({str(path.parent)!r}, 0)
delivery = sink.deliver(batch)
print(delivery.hold, delivery.reason)
"""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
    finally:
        path.parent.chmod(0o700)

    assert done.stdout == f"True {path}: {os.strerror(errno.EACCES)}\n"


def test_read_events_gives_each_event_once(path):
    """A redelivered event is left out and counted; `dedupe=False` gives it again."""
    sink = JSONLinesSink(path)
    batch = batch_of([make_event(), make_event()])
    twin = envelope_of(make_event(id=batch[0].id, source="another"))
    sink.deliver(batch)
    sink.deliver([*batch, twin])
    with path.open("ab") as file:
        file.write(b'[1]\n\n  \n"text"\n')

    reader = read_events(str(path))
    events = list(reader)

    assert [(event.source, event.id) for event in events] == [
        *(("tests", each.id) for each in batch),
        ("another", twin.id),
    ]
    assert all(isinstance(event, CloudEvent) for event in events)
    assert repr(reader) == "<EventReader read=3 repeated=2 passed_over=2>"
    assert ids_in(path, dedupe=False) == ids_of(batch) * 2 + [twin.id]


def test_read_events_while_files_are_rotated(path):
    """A reader that is slow misses nothing that was there when it began."""
    batch = batch_of([make_event() for _ in range(6)])
    sink = JSONLinesSink(path, max_bytes=len(batch[0].payload) + 1)
    for each in batch[:3]:
        sink.deliver([each])
    reader = read_events(path)

    found = [next(reader).id]
    for each in batch[3:]:
        sink.deliver([each])
    found += [event.id for event in reader]

    assert found == ids_of(batch)


def test_read_events_when_a_file_is_rotated_before_it_is_opened(path, monkeypatch):
    """Between the look at the names and the opening of the current file it became another."""
    batch = batch_of([make_event(), make_event()])
    sink = JSONLinesSink(path, max_bytes=len(batch[0].payload) + 1)
    sink.deliver(batch[:1])
    opened = reading._opened

    def slow(file):
        monkeypatch.setattr(reading, "_opened", opened)
        sink.deliver(batch[1:])
        return opened(file)

    monkeypatch.setattr(reading, "_opened", slow)

    assert ids_in(path) == ids_of(batch)


def test_read_events_of_nothing_is_an_error(path):
    """A path that was mistyped is no empty bill; rotated files alone are enough."""
    with pytest.raises(FileNotFoundError):
        read_events(path)
    file = LineFile(path, max_bytes=1 << 20)
    file.append([envelope_of(make_event(id="a")).payload])
    with pytest.raises(FileNotFoundError):
        read_events(path.with_name("other.jsonl"))

    path.rename(path.with_name("usage.20261122T120000Z-000001.jsonl"))

    assert ids_in(path) == ["a"]


def test_a_meter_writes_and_its_file_is_read(path, home):
    """From a call to the file and back, counts and all; two applications share one file."""
    for source in ("shop", "search"):
        with Meter(home, [f"jsonl://{path}"], source=source, ledger=False) as meter:
            meter.record(TokenUsage(input_tokens=7, output_tokens=2), "acme", model="m")
            assert meter.flush()

    events = list(read_events(path))
    assert [(event.source, event.subject) for event in events] == [
        ("shop", "acme"),
        ("search", "acme"),
    ]
    assert [event.data["total_tokens"] for event in events] == [9, 9]


def test_another_application_delivers_what_a_finished_one_left(path, home):
    """A file is one book: whoever writes it in this home writes what was left for it."""
    path.mkdir(parents=True)
    shop = Meter(home, [f"jsonl://{path}"], source="shop", ledger=False)
    event = shop.record(TokenUsage(input_tokens=7), "acme", model="m")
    assert not shop.flush(0.5)
    shop.close(0)
    path.rmdir()

    with Meter(home, [f"jsonl://{path}?every=day"], source="search", ledger=False) as search:
        assert search.drain(20)

    assert [(each.source, each.id) for each in read_events(path)] == [("shop", event.id)]


@pytest.mark.parametrize(
    ("url", "file", "spelling"),
    [
        pytest.param(
            "jsonl:///a/usage.jsonl", "/a/usage.jsonl", "jsonl:///a/usage.jsonl", id="plain"
        ),
        pytest.param("jsonl:///a//./b", "/a/b", "jsonl:///a/b", id="one spelling"),
        pytest.param("jsonl:////a/b", "/a/b", "jsonl:///a/b", id="four slashes"),
        pytest.param(
            "jsonl:///a%20b/%C3%BC%3F", "/a b/ü?", "jsonl:///a%20b/%C3%BC%3F", id="escapes"
        ),
        pytest.param("jsonl:///a/ü~", "/a/ü~", "jsonl:///a/%C3%BC~", id="letters"),
    ],
)
def test_a_url_names_a_file(url, file, spelling):
    """Escapes are resolved, and one file has one URL, which debts are kept under."""
    sink = open_sink(url, source="s")

    assert (os.fspath(sink.path), sink.url, sink.account, sink.name) == (
        file,
        spelling,
        "",
        "jsonl",
    )
    assert open_sink(sink.url, source="t").url == sink.url


def test_parameters(path):
    """Size, period and number of files, and the name."""
    url = f"jsonl://{path}?max_bytes=4096&every=hour&keep=3&name=books"
    with closing(open_sink(url, source="s")) as sink:
        assert sink.name == "books"
        assert sink.limits.max_bytes == 4096
        assert sink.limits.dedupe == "never"
        for _ in range(40):
            assert sink.deliver(batch_of([make_event() for _ in range(5)])).accepted

    assert len(rotated_files(path)) == 3


@pytest.mark.parametrize(
    ("url", "match"),
    [
        pytest.param("jsonl://usage.jsonl", "three slashes", id="two slashes"),
        pytest.param("jsonl://host/usage.jsonl", "three slashes", id="a host"),
        pytest.param("jsonl:usage.jsonl", "three slashes", id="relative"),
        pytest.param("jsonl:", "three slashes", id="nothing"),
        pytest.param("jsonl:///", "name of a file", id="the root"),
        pytest.param("jsonl:///a/", "name of a file", id="a folder"),
        pytest.param("jsonl:///a/.", "name of a file", id="a dot"),
        pytest.param("jsonl:///~/usage.jsonl", "without '~'", id="home"),
        pytest.param("jsonl:///a/../b", "without '~' and '..'", id="upwards"),
        pytest.param("jsonl:///a%00b", "name of a file", id="a zero"),
        pytest.param("jsonl:///a%0Ab", "name of a file", id="a line break"),
        pytest.param("jsonl:///a%FF", "no UTF-8", id="no UTF-8"),
        pytest.param("jsonl:///a?max_bytes=1", "from 4096", id="too small"),
        pytest.param("jsonl:///a?every=week", "one of hour, day", id="a week"),
        pytest.param("jsonl:///a?keep=0", "from 1", id="none kept"),
        pytest.param("jsonl:///a?rotate=1", "max_bytes, every, keep, name", id="unknown"),
        pytest.param("jsonl:///a#b", "fragment", id="fragment"),
    ],
)
def test_a_wrong_url_says_what_is_wanted(url, match):
    """Before anything is written."""
    with pytest.raises(SinkURLError, match=match):
        open_sink(url, source="s")
