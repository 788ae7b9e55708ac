"""Opening a file of usage, and finding out what is in it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import msgspec

from ..errors import ImportFileError
from . import anthropic, openai
from .fields import RowError
from .values import EventsFile, Line, UsageFile

__all__ = ["read_file", "written_at"]

_TableReader = Callable[[Iterable[tuple[int, Mapping[str, str]]]], UsageFile]

_GZIP: Final = b"\x1f\x8b"
_BOM: Final = "\N{ZERO WIDTH NO-BREAK SPACE}"
_KNOWN: Final = (
    "CloudEvents (one a line, or a list), pages of OpenAI's usage API or Anthropic's usage report, "
    "or the table that OpenAI's dashboard or Anthropic's console exports can be imported"
)
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_FIELD: Final = 1 << 20
"""Characters of one cell."""


def read_file(path: Path, *, skip_unreadable: bool = False) -> EventsFile | UsageFile:
    """Read a file of usage; of CloudEvents, as they are asked for.

    Args:
        path: The file, compressed with gzip or not.
        skip_unreadable: Take what begins like JSON for events a line, although the first line is
            none.

    Raises:
        ImportFileError: If it is in no known shape, or cannot be read to its end; from reading the
            events, too.
    """
    try:
        with _opened(path) as file:
            first = _first_line(file)
            if not first.strip():
                raise ImportFileError(str(path), "it is empty")
            begins = first.lstrip()[:1]
            # After a loss of power what was torn may be zeros.
            is_torn = skip_unreadable and begins != b"[" and (begins == b"{" or _is_named_so(path))
            if begins not in (b"{", b"[") and not is_torn:
                return _table(path, file.read())
            if is_torn or _is_lines(path, first):
                return EventsFile(lines=_lines(path), place="line")
            return _document(path, file.read())
    except RowError as error:
        raise ImportFileError(str(path), str(error)) from None
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from error


def written_at(path: Path) -> float:
    """When a file was written last, in seconds since 1970.

    Raises:
        ImportFileError: If it is not there any more.
    """
    try:
        return path.stat().st_mtime
    except OSError as error:
        raise _unreadable(path, error) from error


def _opened(path: Path) -> BinaryIO:
    file = path.open("rb")
    if file.read(2) == _GZIP:
        file.close()
        return cast("BinaryIO", gzip.open(path, "rb"))
    file.seek(0)
    return file


def _first_line(file: BinaryIO) -> bytes:
    """The first line that is not blank; the file stands at its beginning then."""
    line = b"\n"
    while line and not line.strip():
        line = file.readline()
    file.seek(0)
    return line.removeprefix(_BOM.encode())


def _is_lines(path: Path, first: bytes) -> bool:
    try:
        found = msgspec.json.decode(first)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Pretty JSON begins with a line that is none; so does a file that is damaged.
        return _is_named_so(path)
    return isinstance(found, dict) and "specversion" in found


def _is_named_so(path: Path) -> bool:
    return ".jsonl" in path.suffixes or ".ndjson" in path.suffixes


def _lines(path: Path) -> Iterator[Line]:
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, 1):
                payload = line.strip()
                if number == 1:
                    payload = payload.removeprefix(_BOM.encode())
                if payload:
                    yield Line(number, payload)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from error


def _document(path: Path, content: bytes) -> EventsFile | UsageFile:
    """JSON that is no line each: values one behind the other, or lists of them."""
    parts: list[bytes] = []
    for part in _values(path, _decoded(path, content)):
        parts += msgspec.json.decode(part, type=list[msgspec.Raw]) if part[:1] == b"[" else [part]
    values = [msgspec.json.decode(part) for part in parts]
    if not all(isinstance(value, dict) for value in values):
        raise ImportFileError(str(path), f"it holds values that are no objects; {_KNOWN}")
    if all("specversion" in value for value in values):
        events = (Line(place, bytes(part)) for place, part in enumerate(parts, 1))
        return EventsFile(lines=events, place="event")
    if all(value.get("object") in ("page", "bucket") for value in values):
        return openai.read_pages(values)
    if all(_is_anthropic(value) for value in values):
        return anthropic.read_pages(values)
    raise ImportFileError(str(path), f"it is JSON of an unknown shape; {_KNOWN}")


def _is_anthropic(value: Mapping[str, Any]) -> bool:
    return "object" not in value and ({"data", "has_more"} <= set(value) or "results" in value)


def _values(path: Path, text: str) -> Iterator[bytes]:
    decoder = json.JSONDecoder(parse_constant=_no_number)
    position = 0
    while True:
        position = cast("re.Match[str]", _SPACE.match(text, position)).end()
        if position == len(text):
            return
        try:
            _, end = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            where = f"line {error.lineno}, column {error.colno}"
            raise ImportFileError(
                str(path), f"{where}: it is no whole JSON ({error.msg}); was it cut off?"
            ) from None
        except (ValueError, RecursionError):
            raise ImportFileError(str(path), "it is no JSON: a value is none") from None
        yield text[position:end].encode()
        position = end


def _no_number(name: str) -> None:
    raise ValueError(name)


def _table(path: Path, content: bytes) -> UsageFile:
    text = _decoded(path, content)
    delimiter = "\t" if "\t" in text.split("\n", 1)[0] else ","
    if not text.endswith("\n"):
        # A number that was cut is one, too.
        raise ImportFileError(
            str(path),
            "its last line has no end, so it may have been cut off; if it was not, add a line break",
        )
    csv.field_size_limit(_FIELD)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        titles = [title.strip() for title in next(reader, [])]
        read = _reader_of(path, titles)
        lines = []
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(titles):
                raise RowError(
                    f"line {reader.line_num} has {len(cells)} cells, and the first one {len(titles)}"
                )
            row = dict(zip(titles, cells, strict=True))
            lines.append((reader.line_num, row))
    except csv.Error as error:
        raise RowError(f"line {reader.line_num}: {error}") from None
    return read(lines)


def _reader_of(path: Path, titles: list[str]) -> _TableReader:
    if len(set(titles)) < len(titles):
        raise ImportFileError(str(path), "two columns of it have one title")
    if set(openai.TABLE_COLUMNS) <= set(titles):
        return openai.read_table
    if set(anthropic.TABLE_COLUMNS) <= set(titles):
        return anthropic.read_table
    raise ImportFileError(str(path), f"it is no JSON, and no table that is known; {_KNOWN}")


def _decoded(path: Path, content: bytes) -> str:
    try:
        return content.decode().removeprefix(_BOM)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ImportFileError(str(path), f"line {line}: it is no UTF-8") from None


def _unreadable(path: Path, error: Exception) -> ImportFileError:
    if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
        return ImportFileError(str(path), f"it cannot be read: {error.strerror or error}")
    return ImportFileError(str(path), "what gzip made is cut off or damaged")
