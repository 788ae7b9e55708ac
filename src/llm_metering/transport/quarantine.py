"""Damaged segments: mended where that can be done, and kept as they were found for a person.

What lies in `bad/` is never deleted from here. It is evidence: of a medium that fails, or of
events that nobody could deliver.
"""

from __future__ import annotations

import contextlib
import logging
import os

from .. import system
from .frames import parse_frames
from .headers import stand_in_header
from .spool import Header, SegmentName, Spool, read_segment_name

__all__ = ["keep_evidence", "mend_segment", "quarantined"]

logger = logging.getLogger("llm_metering")


def quarantined(spool: Spool) -> list[SegmentName]:
    """The segments whose damaged form is kept for a person."""
    try:
        files = os.listdir(spool.bad_folder)
    except OSError:
        return []
    return sorted(filter(None, map(read_segment_name, files)))


def keep_evidence(spool: Spool, name: SegmentName) -> None:
    """Keep a segment as it is now, unless something of that name is kept already.

    Raises:
        OSError: If that cannot be done.
    """
    path, evidence = spool.segment_path(name), spool.bad_path(name)
    system.make_private_folder(spool.bad_folder)
    try:
        # A second name, which is there on a full disk too: nothing is ever written to this
        # file again.
        os.link(path, evidence)
    except FileExistsError:
        return
    except OSError:
        # Not every file system has such names.
        system.replace_file(evidence, path.read_bytes())
    logger.error(
        "%s is damaged; it is kept as %s, and what can be read of it is delivered", path, evidence
    )


def mend_segment(spool: Spool, name: SegmentName) -> None:
    """Give a segment of a dead writer its header again, or put it aside.

    All segments of a writer are owed to the same sinks, so the header of another one will do. It
    is put where the old one was: what lies behind it stays at its place, and the sinks' places
    in the segment hold. Call it under the lock of the sums.

    Raises:
        OSError: If the disk does not take it; the segment stays as it is then.
    """
    if not spool.is_damaged(name):
        return  # somebody was faster
    path = spool.segment_path(name)
    content = path.read_bytes()
    frames = parse_frames(content).frames
    siblings = map(spool.header, spool.segments_of(name.writer))
    header = next(filter(None, siblings), None)
    mended = _with_header(header, content, frames[0].start) if header and frames else None
    if mended is not None:
        keep_evidence(spool, name)
        system.replace_file(path, mended)
        return
    system.make_private_folder(spool.bad_folder)
    os.replace(path, spool.bad_path(name))
    with contextlib.suppress(OSError):
        system.sync_folder(spool.bad_folder)
    logger.error(
        "%s has no header, and no other segment of its process says whose it is: %d records in it"
        " are not delivered; it is kept as %s",
        path,
        len(frames),
        spool.bad_path(name),
    )


def _with_header(header: Header, content: bytes, room: int) -> bytes | None:
    start = stand_in_header(header, room)
    # What is left of the damage stays, to be counted as such.
    return None if start is None else start + content[len(start) :]
