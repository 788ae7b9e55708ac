"""The file system that a folder is on, and what that means for a journal.

Source: proc(5) and fstab(5) for the format of `/proc/mounts`; flock(2) for what file systems of
other machines make of locks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from .finding import Finding, failure, ok, warning

__all__ = ["MOUNTS", "Mount", "judge_mount", "mount_of", "parse_mounts"]

MOUNTS: Final = Path("/proc/mounts")

_IN_MEMORY: Final = frozenset(["tmpfs", "ramfs", "rootfs"])
_OF_A_CONTAINER: Final = frozenset(["overlay", "overlayfs", "aufs"])
_ON_THE_NETWORK: Final = frozenset(
    ["nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "glusterfs", "gpfs"]
)
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A file system and where it is mounted.

    Attributes:
        point: The folder.
        kind: Its type, such as `ext4`.
        read_only: Whether it is mounted so.
    """

    point: PurePosixPath
    kind: str
    read_only: bool


def parse_mounts(text: str) -> list[Mount]:
    r"""Read `/proc/mounts`.

    >>> parse_mounts("/dev/vda1 /my\\040disk ext4 rw,relatime 0 0")[0].point
    PurePosixPath('/my disk')
    """
    mounts = []
    for line in text.splitlines():
        fields = line.split(" ")
        if len(fields) >= 4:
            point = _ESCAPE.sub(lambda found: chr(int(found[1], 8)), fields[1])
            options = fields[3].split(",")
            mounts.append(
                Mount(point=PurePosixPath(point), kind=fields[2], read_only="ro" in options)
            )
    return mounts


def mount_of(folder: Path, mounts: Iterable[Mount]) -> Mount | None:
    """The file system that a folder is on.

    Args:
        folder: Absolute, without symbolic links.
        mounts: In the order in which they were mounted: a later one hides an earlier.
    """
    holding = [mount for mount in mounts if folder.is_relative_to(mount.point)]
    return max(reversed(holding), key=lambda mount: len(mount.point.parts), default=None)


def judge_mount(mount: Mount | None) -> Finding:
    """Whether a journal can live there."""
    check = "home.file_system"
    if mount is None:
        return ok(check, "this system does not say which file system the home is on")
    where = f"the home is on {mount.kind} (mounted at {mount.point})"
    if mount.read_only:
        return failure(
            check,
            f"{where}, which is read-only",
            means="no event can be kept: applications refuse to start metering",
            advice="set LLM_METERING_HOME to a folder on a volume that can be written to",
        )
    if mount.kind in _IN_MEMORY:
        return warning(
            check,
            f"{where}, which is memory",
            means="what has not been delivered, and the ledger, are gone when the machine or the "
            "container ends",
            advice="set LLM_METERING_HOME to a folder on a disk, or run `llm-metering drain` "
            "before it ends (preStop) and let a sink keep the usage",
        )
    if mount.kind in _OF_A_CONTAINER:
        return warning(
            check,
            f"{where}, the layer of a container",
            means="what has not been delivered, and the ledger, are gone with the container",
            advice="mount a volume and set LLM_METERING_HOME to it, or run `llm-metering drain` "
            "before the container ends (preStop) and let a sink keep the usage",
        )
    if mount.kind in _ON_THE_NETWORK or mount.kind.startswith("fuse"):
        return warning(
            check,
            f"{where}, which another machine or program serves",
            means="locks may not hold between machines, a sync may not reach a medium, and "
            "applications wait whenever it does",
            advice="set LLM_METERING_HOME to a folder on a local disk, one for each machine",
        )
    return ok(check, where)
