"""The home as the doctor sees it: real folders, files, owners and locks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llm_metering import system
from llm_metering.checkup.home import LOW_SPACE, SLOW_SYNC, check_home
from llm_metering.checkup.mounts import judge_mount
from llm_metering.mounts import mount_of, parse_mounts
from llm_metering.testing import FakeClock

GIB = 1 << 30


def by_check(findings):
    """Findings by their names."""
    return {each.check: each for each in findings}


def test_a_private_home_is_well(home, levels):
    """On a disk, of one user, for nobody else; nothing is left in it."""
    found = levels(check_home(home))

    del found["home.space"], found["home.sync"], found["home.file_system"]  # the machine's
    assert found == dict.fromkeys(
        ("home.folder", "home.owner", "home.permissions", "home.writable", "home.locks"), "ok"
    )
    assert list(home.iterdir()) == []


def test_a_home_that_is_not_there_is_judged_by_its_parent(tmp_path):
    """Nothing is made, of the home or beside it."""
    found = by_check(check_home(tmp_path / "a" / "b"))

    assert str(tmp_path) in found["home.folder"].found
    assert found["home.writable"].level == "ok"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", [pytest.param("", id="itself"), pytest.param("x/y", id="above")])
def test_a_file_is_no_home(tmp_path, below):
    """Neither as the home nor as a folder above it."""
    (tmp_path / "file").write_text("")

    found = by_check(check_home(tmp_path / "file" / below))

    assert list(found) == ["home.folder"]
    assert found["home.folder"].level == "failure"


def test_where_nothing_can_be_written_nothing_can_be_kept():
    """Of a folder of the kernel's, in which not even its owner can make a file."""
    found = by_check(check_home(Path("/sys/llm-metering")))

    assert found["home.writable"].level == "failure"
    assert "home.locks" not in found


def test_a_function_of_aws_is_told_where_it_may_write(monkeypatch):
    """Only /tmp can be written there."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "checkout")

    assert "/tmp/" in by_check(check_home(Path("/sys/x")))["home.writable"].advice


@pytest.fixture
def elsewhere(home):
    """A home of another user's."""
    if os.geteuid() != 0:
        return Path("/usr")  # root's
    os.chown(home, 65534, 65534)
    return home


def test_another_users_home_is_refused(elsewhere):
    """It says whose it is, and who looks."""
    owner = by_check(check_home(elsewhere))["home.owner"]

    assert owner.level == "failure"
    assert "root" in owner.found
    assert str(elsewhere) in owner.found


def test_files_of_another_user_are_found(home):
    """As root leaves them, who ran a command in a user's home once."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a file of another user's")
    segment = home / "journal" / "v1" / "x.seg"
    segment.parent.mkdir(parents=True)
    segment.write_text("")
    os.chown(segment, 65534, 65534)

    owner = by_check(check_home(home))["home.owner"]

    assert owner.level == "failure"
    assert str(segment) in owner.found


@pytest.mark.parametrize(
    ("door", "inside", "level"),
    [
        pytest.param(0o700, 0o644, "ok", id="behind a door"),
        pytest.param(0o755, 0o600, "warning", id="open folder"),
        pytest.param(0o711, 0o644, "warning", id="open file"),
    ],
)
def test_what_others_may_read_is_said(home, door, inside, level):
    """A file that all may read does no harm where nobody gets to it."""
    ledger = home / "ledger.db"
    ledger.write_text("")
    ledger.chmod(inside)
    home.chmod(door)

    assert by_check(check_home(home))["home.permissions"].level == level


def space(blocks, *, size=GIB, inodes=1_000_000):
    """What a file system says that has so much left."""
    values = (size, size, blocks * 2, blocks, blocks, inodes, inodes, inodes, 0, 255)
    return lambda _folder: os.statvfs_result(values)


@pytest.mark.parametrize(
    ("free", "level"),
    [
        pytest.param(space(100), "ok", id="plenty"),
        pytest.param(space(1), "ok", id="just enough"),
        pytest.param(space(1023, size=LOW_SPACE // 1024), "warning", id="little"),
        pytest.param(space(63, size=1 << 20), "failure", id="a few segments"),
        pytest.param(space(0), "failure", id="none"),
    ],
)
def test_space_that_runs_out_is_said(home, free, level):
    """With a warning below 1 GiB, and a failure where a few segments fill it."""
    found = by_check(check_home(home, space=free))

    assert found["home.space"].level == level
    assert "home.inodes" not in found


@pytest.mark.parametrize(
    ("inodes", "warned"),
    [pytest.param(9_999, True, id="few"), pytest.param(0, False, id="made as they are needed")],
)
def test_inodes_that_run_out_are_said(home, inodes, warned):
    """A file system that makes them as it needs them says 0 of 0."""
    found = by_check(check_home(home, space=space(100, inodes=inodes)))

    assert ("home.inodes" in found) == warned


@pytest.mark.parametrize(
    ("seconds", "level"),
    [pytest.param(SLOW_SYNC / 2, "ok", id="quick"), pytest.param(0.25, "warning", id="slow")],
)
def test_a_slow_sync_is_said(home, seconds, level):
    """Measured: the median of a few, each of new data."""
    clock = FakeClock()
    sizes = []

    def sync(descriptor):
        clock.advance(seconds)
        sizes.append(os.fstat(descriptor).st_size)
        system.sync_data(descriptor)

    finding = by_check(check_home(home, sync=sync, clock=clock))["home.sync"]

    assert finding.level == level
    assert f"{seconds * 1000:.1f} ms" in finding.found
    assert len(set(sizes)) == len(sizes) > 2


def test_a_full_disk_is_found_by_writing(home):
    """A sync that fails says that nothing can be kept; the probe goes all the same."""

    def sync(_descriptor):
        raise OSError(28, "No space left on device")

    found = by_check(check_home(home, sync=sync))

    assert found["home.writable"].level == "failure"
    assert "No space left" in found["home.writable"].found
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    "lock",
    [
        pytest.param(lambda *_, **__: None, id="no locks"),
        pytest.param(lambda path: os.open(path, os.O_RDWR), id="locks that exclude nobody"),
    ],
)
def test_a_file_system_without_locks_is_a_failure(home, lock, monkeypatch):
    """As on some network mounts, of which a test has none."""
    monkeypatch.setattr(system, "lock_file", lock)

    assert by_check(check_home(home))["home.locks"].level == "failure"


MOUNTED = r"""
/dev/vda1 / ext4 rw,relatime 0 0
tmpfs /run tmpfs rw,nosuid 0 0
overlay /var/lib/app overlay rw 0 0
server:/x /mnt/my\040share nfs4 rw,hard 0 0
sshfs /mnt/fuse fuse.sshfs rw 0 0
/dev/vdb /srv xfs ro 0 0
/dev/vdc /hidden ext4 rw 0 0
tmpfs /hidden tmpfs rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind", "level"),
    [
        pytest.param("/home/app", "ext4", "ok", id="disk"),
        pytest.param("/runner", "ext4", "ok", id="a name that begins like a mount"),
        pytest.param("/run/user/1000", "tmpfs", "warning", id="memory"),
        pytest.param("/var/lib/app", "overlay", "warning", id="container"),
        pytest.param("/mnt/my share/x", "nfs4", "warning", id="network"),
        pytest.param("/mnt/fuse/x", "fuse.sshfs", "warning", id="fuse"),
        pytest.param("/srv/x", "xfs", "failure", id="read-only"),
        pytest.param("/hidden/x", "tmpfs", "warning", id="mounted over"),
    ],
)
def test_the_file_system_is_judged(folder, kind, level):
    """By the innermost mount, and of two at one place by the later."""
    mount = mount_of(Path(folder), parse_mounts(MOUNTED))

    assert mount.kind == kind
    assert judge_mount(mount).level == level


def test_the_file_system_of_this_machine_is_found(levels):
    """Where Linux keeps shared memory it is memory, and known as such."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("this machine has no /dev/shm")

    assert levels(check_home(Path("/dev/shm/llm-metering")))["home.file_system"] == "warning"


def test_without_a_list_of_mounts_nothing_is_said(home, tmp_path):
    """As on systems without /proc."""
    assert "home.file_system" not in by_check(check_home(home, mounts=tmp_path / "none"))
