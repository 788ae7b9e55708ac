"""Segments that every sink has had, kept for a while so that they can be replayed.

They lie in `kept/`, where nobody looks who counts, ships or adopts: what is in them was folded into
the sums before they were moved. The time of the move is the file's own (mtime).
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path
from typing import Final

from .. import system
from .spool import SegmentName, Spool, read_segment_name

__all__ = ["give_way", "keep_segment", "kept_segments", "prune_kept"]

logger = logging.getLogger("llm_metering")

_BLOCK: Final = 4096
"""What even the smallest file takes on disk; each short process leaves one."""
_LARGE: Final = 1 << 20
"""Segments from this size on are too large to wait for the next tidying."""


def keep_segment(spool: Spool, name: SegmentName) -> None:
    """Move a segment that was folded out of the journal; or delete it, if nothing is kept.

    Raises:
        OSError: If it can be neither moved nor deleted; it is still in the journal then.
    """
    path = spool.segment_path(name)
    if spool.retention.keeps_nothing:
        path.unlink(missing_ok=True)
        return
    try:
        system.make_private_folder(spool.kept_folder)
        # Before the move: a crash between the two must not leave a kept segment that looks as
        # old as its last record, and is deleted at once.
        os.utime(path)
        size = path.stat().st_size
        os.replace(path, spool.kept_path(name))
    except OSError as error:
        if not path.exists():
            return  # somebody was faster
        # Such as a disk so full that there is no room for a name. Every sink has it; kept in
        # the journal it would be in the way of what no sink has.
        logger.warning("%s cannot be kept (%s) and is deleted; no sink lacks it", path, error)
        path.unlink(missing_ok=True)
        return
    if size >= _LARGE:
        prune_kept(spool)


def kept_segments(spool: Spool) -> list[SegmentName]:
    """The segments that are kept, oldest writer first."""
    try:
        files = os.listdir(spool.kept_folder)
    except OSError:
        return []
    return sorted(filter(None, map(read_segment_name, files)))


def prune_kept(spool: Spool) -> int:
    """Delete kept segments that are too old or too many, the oldest first; never raises.

    Returns:
        How many bytes that gave back.
    """
    retention = spool.retention
    files = _by_age(spool)
    excess = sum(size for _, size, _ in files) - retention.max_bytes
    too_old = time.time() - retention.hours * 3600
    freed = 0
    for kept_since, size, path in files:
        if kept_since > too_old and freed >= excess:
            break
        freed += _delete(path, size)
    return freed


def give_way(spool: Spool, bytes_wanted: int) -> int:
    """Delete kept segments, the oldest first, because the disk is full; never raises.

    Args:
        spool: The folder.
        bytes_wanted: How much is needed.

    Returns:
        How many bytes that gave back; less than wanted if no more was kept.
    """
    freed = 0
    for _, size, path in _by_age(spool):
        if freed >= bytes_wanted:
            break
        freed += _delete(path, size)
    return freed


def _by_age(spool: Spool) -> list[tuple[float, int, Path]]:
    """When each was moved, what it takes on disk, and where it is; the oldest first."""
    found = []
    with contextlib.suppress(OSError), os.scandir(spool.kept_folder) as entries:
        for entry in entries:
            if read_segment_name(entry.name) is None:
                continue  # not ours to delete
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                blocks = -(-status.st_size // _BLOCK)
                found.append((status.st_mtime, max(blocks, 1) * _BLOCK, Path(entry.path)))
    return sorted(found)


def _delete(path: Path, size: int) -> int:
    try:
        path.unlink()
    except OSError:
        return 0  # somebody was faster, or it is not ours
    return size
