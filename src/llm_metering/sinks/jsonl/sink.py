"""A file of JSON lines: one CloudEvent a line, appended, rotated, readable again."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

import msgspec

from ...errors import SinkURLError
from .._payload import UnusableEventError, read_event
from ..base import Delivery, Envelope, SinkContext, SinkLimits
from ..urls import filled, one_of, parameters_of, split_url, whole_number
from .files import Appended, BusyFileError, Every, LineFile, NoFileError
from .reading import EventReader, read_events

__all__ = ["EventReader", "JSONLinesSink", "from_url", "read_events"]

LIMITS: Final = SinkLimits(max_events=500, max_bytes=1 << 20, dedupe="never")
MAX_BYTES: Final = 100 << 20
"""Bytes of a file, unless its URL says otherwise."""
LEAST_BYTES: Final = 4096

_SINK: Final = "a jsonl"
_SECRETS: Final = "there is nothing secret about a file"
_PARAMETERS: Final = ("max_bytes", "every", "keep", "name")
_PERIODS: Final[dict[str, Every]] = {"hour": "hour", "day": "day"}

_FOR_A_PERSON: Final = frozenset(
    [
        *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENOENT),
        *(errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.EINVAL),
        *(errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS),
    ]
)
"""Errors that stay until somebody changes a path, a right or a mount."""


class JSONLinesSink:
    """Appends events to a file, one a line.

    It writes down what it is given: an event that comes twice is there twice, and who reads the
    file counts it once, as `read_events` does. Any number of processes may write one file.

    Args:
        path: The file, absolute. It and its folder are made for their owner alone.
        name: How `status` calls it.
        max_bytes: The file is renamed before it grows beyond this, and a new one begun.
        every: The same when the `hour` or the `day` is over, in UTC.
        keep: How many renamed files stay; `None` is all of them.

    Attributes:
        path: The file.
    """

    account = ""

    def __init__(
        self,
        path: Path,
        *,
        name: str = "jsonl",
        max_bytes: int = MAX_BYTES,
        every: Every | None = None,
        keep: int | None = None,
    ) -> None:
        self.name = name
        self.url = f"jsonl://{quote(os.fspath(path))}"
        self.path = path
        size = min(LIMITS.max_bytes, max_bytes)
        self.limits = replace(LIMITS, max_bytes=size)
        self._file = LineFile(path, max_bytes=max_bytes, every=every, keep=keep)

    def __repr__(self) -> str:
        return f"<JSONLinesSink {self.name} {self.url}>"

    def deliver(self, batch: Sequence[Envelope], /) -> Delivery:
        readable: list[Envelope] = []
        lines: list[bytes] = []
        rejected: set[tuple[str, str]] = set()
        for envelope in batch:
            try:
                read_event(envelope.payload)
            except UnusableEventError as error:
                rejected.add((envelope.id, str(error)))
            else:
                readable.append(envelope)
                lines.append(_line(envelope.payload))
        if not readable:
            return Delivery(rejected=frozenset(rejected))
        return replace(self._append(readable, lines), rejected=frozenset(rejected))

    def _append(self, batch: Sequence[Envelope], lines: Sequence[bytes]) -> Delivery:
        try:
            appended = self._file.append(lines)
        except BusyFileError:
            return Delivery.try_later(batch, f"{self.path}: another process holds its lock")
        except NoFileError:
            return Delivery.try_later(batch, f"{self.path}: it is no file to append to", hold=True)
        except OSError as refusal:
            appended = Appended(lines=0, error=refusal)
        error = appended.error
        if error is None:
            return Delivery.all_accepted(batch)
        kept, left = batch[: appended.lines], batch[appended.lines :]
        later = Delivery.try_later(
            left,
            f"{self.path}: {error.strerror or type(error).__name__}",
            hold=error.errno in _FOR_A_PERSON,
            ambiguous=appended.unsure,
        )
        return replace(later, accepted=frozenset(envelope.id for envelope in kept))

    def close(self) -> None:
        """Nothing is open between two batches."""


def _line(payload: bytes) -> bytes:
    # We write events without line breaks; others may have been replayed from elsewhere.
    if b"\n" in payload or b"\r" in payload:
        return msgspec.json.format(payload, indent=-1)
    return payload


def from_url(url: str, _context: SinkContext, /) -> JSONLinesSink:
    """Make the sink that `jsonl:///absolute/path.jsonl[?parameters]` names.

    Args:
        url: In its path, what has a meaning in URLs is written as `%3F` and the like.

    Raises:
        SinkURLError: If it names no file, or a parameter is wrong.
    """
    parts = split_url(url, _SINK)
    given = parameters_of(parts, _SINK, _PARAMETERS, secrets=_SECRETS)
    every = one_of("every", given["every"], tuple(_PERIODS)) if "every" in given else None
    return JSONLinesSink(
        _path(parts.netloc, parts.path),
        name=filled("name", given.get("name", "jsonl")),
        max_bytes=whole_number(
            "max_bytes", given.get("max_bytes", str(MAX_BYTES)), least=LEAST_BYTES
        ),
        every=_PERIODS[every] if every else None,
        keep=whole_number("keep", given["keep"], least=1) if "keep" in given else None,
    )


def _path(host: str, path: str) -> Path:
    if host or not path.startswith("/"):
        raise SinkURLError(
            "a jsonl sink is a file on this machine, by its absolute path with three slashes:"
            " jsonl:///var/lib/my-app/usage.jsonl"
        )
    try:
        text = unquote(path, errors="strict")
    except UnicodeDecodeError:
        raise SinkURLError("the path of a jsonl sink is no UTF-8 behind its % signs") from None
    folders = text.split("/")
    if "~" in folders[1][:1] or ".." in folders:
        raise SinkURLError("the path of a jsonl sink is absolute, without '~' and '..'")
    if not text.isprintable() or not folders[-1].strip("."):
        raise SinkURLError("the path of a jsonl sink ends in the name of a file")
    # One file has one name, which the journal's debts are kept under.
    return Path(os.path.normpath(text.replace("//", "/")))
