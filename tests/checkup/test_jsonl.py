"""A file of JSON lines as the doctor sees it."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from llm_metering.checkup.jsonl import check_jsonl
from llm_metering.sinks import open_sink
from tests.factories import batch_of, make_event

GIB = 1 << 30


@pytest.fixture
def path(tmp_path):
    """Where the file goes."""
    folder = tmp_path / "usage"
    folder.mkdir(mode=0o700)
    return folder / "usage.jsonl"


def mounted(tmp_path, kind):
    """A list of mounts by which everything is on a file system of this kind."""
    mounts = tmp_path / "mounts"
    mounts.write_text(f"something / {kind} rw 0 0\n")
    return mounts


def free(size):
    """A file system with so much room."""
    return lambda _: SimpleNamespace(f_bavail=size, f_frsize=1)


def look(path, **options):
    """What is found of a file, by check; nothing was left beside it."""
    before = sorted(path.parent.iterdir()) if path.parent.is_dir() else None
    sink = open_sink(f"jsonl://{path}?name=file", source="shop")
    findings = list(check_jsonl(sink, **{"space": free(10 * GIB), **options}))
    assert (sorted(path.parent.iterdir()) if path.parent.is_dir() else None) == before
    assert all(each.sink == "file" for each in findings)
    return {each.check: each for each in findings}


def levels(found):
    """Their levels."""
    return {check: each.level for check, each in found.items()}


def test_a_file_that_is_well(path, tmp_path):
    """It is there, its owner's, on a disk with room; its content is as it was."""
    open_sink(f"jsonl://{path}", source="s").deliver(batch_of([make_event()]))
    content = path.read_bytes()

    found = look(path, mounts=mounted(tmp_path, "ext4"))

    assert levels(found) == {
        "sink.writable": "ok",
        "sink.permissions": "ok",
        "sink.file_system": "ok",
        "sink.space": "ok",
        "sink.deduplication": "ok",
    }
    assert path.read_bytes() == content


def test_a_file_that_is_not_there_yet(path, tmp_path):
    """The folder that it would be made in is looked at, and nothing is made."""
    deep = path.parent / "a" / "b" / "usage.jsonl"
    found = look(deep, mounts=mounted(tmp_path, "ext4"))

    assert found["sink.writable"].found.startswith(f"{deep} is not there yet; {path.parent} can")
    assert "sink.permissions" not in found
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    "arrange",
    [
        pytest.param(lambda path: path.mkdir(), id="a folder"),
        pytest.param(os.mkfifo, id="a pipe"),
        pytest.param(lambda path: (path.parent.rmdir(), path.parent.touch()), id="no folder"),
    ],
)
def test_what_cannot_be_appended_to_is_a_failure(path, arrange):
    """Said as what the sink would do: pause."""
    arrange(path)

    found = look(path)

    assert levels(found) == {"sink.writable": "failure"}
    assert found["sink.writable"].means.startswith("the sink pauses")


@pytest.mark.parametrize(
    ("mode", "door", "level"),
    [
        pytest.param(0o600, 0o755, "ok", id="owner"),
        pytest.param(0o640, 0o755, "ok", id="group"),
        pytest.param(0o644, 0o755, "warning", id="everybody"),
        pytest.param(0o644, 0o700, "ok", id="behind a door"),
    ],
)
def test_who_may_read_it(path, mode, door, level):
    """A group may, for a log shipper; every user of the machine may not."""
    path.touch()
    path.chmod(mode)
    path.parent.chmod(door)

    assert look(path)["sink.permissions"].level == level


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        pytest.param("ext4", "ok", id="disk"),
        pytest.param("tmpfs", "warning", id="memory"),
        pytest.param("overlay", "warning", id="container"),
        pytest.param("nfs4", "warning", id="network"),
    ],
)
def test_what_it_is_on(path, tmp_path, kind, level):
    """What it took is not sent again: it should be on something that stays."""
    found = look(path, mounts=mounted(tmp_path, kind))["sink.file_system"]

    assert found.level == level
    assert kind in found.found


def test_a_system_without_a_list_of_mounts(path, tmp_path):
    """It is not said what is not known."""
    assert "sink.file_system" not in look(path, mounts=tmp_path / "none")


@pytest.mark.parametrize(
    ("size", "level"),
    [
        pytest.param(GIB, "ok", id="room"),
        pytest.param(GIB - 1, "warning", id="little"),
        pytest.param((64 << 20) - 1, "failure", id="none"),
    ],
)
def test_how_much_room_there_is(path, size, level):
    """Before the sink has to wait."""
    assert look(path, space=free(size))["sink.space"].level == level
