"""Where an export is written: a file that is there whole or not at all, or the standard output."""

from __future__ import annotations

import contextlib
import gzip
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, cast

from .. import system
from ..errors import ExportError

__all__ = ["check_target", "opened"]

_LEVEL: Final = 6


def check_target(path: Path, *, overwrite: bool) -> Path:
    """Make sure that the file may be written, before anything is read for it.

    Returns:
        The file itself, where `path` is a link.

    Raises:
        ExportError: If it is there, or its folder is not.
    """
    path = _followed(path)
    if path.is_dir():
        raise ExportError(f"{path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise ExportError(f"{path.parent} is no folder; make it first")
    if path.exists() and not path.is_file():
        # To give its name to a file would take the device from everybody.
        raise ExportError(f"{path} is no file; name one, or - for the standard output")
    if not overwrite and path.exists():
        raise _there(path)
    return path


def _followed(path: Path) -> Path:
    try:
        return path.resolve() if path.is_symlink() else path
    except (OSError, RuntimeError) as error:
        raise ExportError(f"{path} is a link that leads nowhere") from error


@contextlib.contextmanager
def opened(path: Path | None, *, compressed: bool, overwrite: bool) -> Iterator[BinaryIO]:
    """What to write to; a file gets its name once it is whole, and on the medium.

    Args:
        path: The file; `None` is the standard output.
        compressed: Whether what is written goes through gzip.
        overwrite: Whether a file that is there gives way.

    Raises:
        ExportError: If it cannot be written, or is there.
    """
    if path is None:
        try:
            with _through_gzip(sys.stdout.buffer, compressed) as file:
                yield file
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise  # the reader has enough
        except OSError as error:
            raise ExportError(
                f"cannot write the standard output: {error.strerror or error}; what it has is a part"
            ) from error
        return
    try:
        # Events name customers: it is made for its owner alone.
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror or error}") from error
    temporary = Path(name)
    try:
        with open(descriptor, "wb") as raw:
            with _through_gzip(raw, compressed) as file:
                yield file
            raw.flush()
            system.sync_data(raw.fileno())
        _name(temporary, path, overwrite)
        system.sync_folder(path.parent)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _through_gzip(raw: BinaryIO, compressed: bool) -> Iterator[BinaryIO]:
    if not compressed:
        yield raw
        return
    # Without a name and a time in it the same events make the same file.
    with gzip.GzipFile("", "wb", compresslevel=_LEVEL, fileobj=raw, mtime=0) as file:
        yield cast("BinaryIO", file)


def _name(temporary: Path, path: Path, overwrite: bool) -> None:
    if overwrite:
        os.replace(temporary, path)
        return
    try:
        # Unlike renaming, this never takes the place of a file that was made meanwhile.
        os.link(temporary, path)
    except FileExistsError:
        raise _there(path) from None
    except OSError:
        # A file system without links.
        if path.exists():
            raise _there(path) from None
        os.replace(temporary, path)


def _there(path: Path) -> ExportError:
    return ExportError(f"{path} is there; name another file, or overwrite it with --force")
