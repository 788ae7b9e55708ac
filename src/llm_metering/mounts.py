"""The file system that a folder is on.

Source: proc(5) and fstab(5) for the format of `/proc/mounts`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

__all__ = ["MOUNTS", "Mount", "is_on_local_disk", "mount_of", "parse_mounts"]

MOUNTS: Final = Path("/proc/mounts")

_ON_LOCAL_DISK: Final = frozenset(["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs"])
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


def is_on_local_disk(folder: Path) -> bool:
    """Whether a folder is on a file system of this machine that is known to be one."""
    try:
        mount = mount_of(folder.resolve(), parse_mounts(MOUNTS.read_text()))
    except OSError:
        return False  # not Linux
    return mount is not None and mount.kind in _ON_LOCAL_DISK
