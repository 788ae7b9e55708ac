"""The formats: JSON lines, CSV and Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO, Final, Literal, Protocol

import msgspec

from ..errors import MissingExtraError
from ..ledger.extracts import StoredEvent
from ..meters.frames import csv_cell
from ..meters.moments import rfc3339
from .columns import COLUMNS, ColumnType, row_of

__all__ = ["ExportFormat", "Writer", "writer_of"]

ExportFormat = Literal["jsonl", "csv", "parquet"]

_COMPRESSION: Final = "zstd"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

ROW_GROUP: Final = 20_000
"""Rows of Parquet that lie together: a reader passes over a group by the bounds of its values."""


class Writer(Protocol):
    """Writes events in one format."""

    def write(self, events: Sequence[StoredEvent], /) -> None:
        """Write some more of them."""

    def close(self) -> None:
        """Write what stands at the end; the file stays open."""


def writer_of(format: ExportFormat, file: BinaryIO) -> Writer:
    """What writes a format into a file.

    Raises:
        MissingExtraError: If it needs a package that is not installed.
    """
    if format == "jsonl":
        return JSONLines(file)
    return CSV(file) if format == "csv" else Parquet(file)


class JSONLines:
    """One CloudEvent a line, byte for byte as it was delivered.

    Only line breaks are taken out, which an event of somebody else may have between its values.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, events: Sequence[StoredEvent]) -> None:
        self._file.write(b"".join([_line(event.payload) + b"\n" for event in events]))

    def close(self) -> None:
        """Nothing stands at the end."""


def _line(payload: bytes) -> bytes:
    if b"\n" in payload or b"\r" in payload:
        return msgspec.json.format(payload, indent=-1)
    return payload


class CSV:
    """A table with a line of titles, in UTF-8; an empty cell is a value that there is not."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._write([list(COLUMNS)])

    def write(self, events: Sequence[StoredEvent]) -> None:
        self._write([self._cells(row_of(event)) for event in events])

    def close(self) -> None:
        """Nothing stands at the end."""

    def _cells(self, row: dict[str, Any]) -> list[object]:
        return [_cell(row.get(name), kind) for name, kind in COLUMNS.items()]

    def _write(self, rows: list[list[Any]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        written = text.getvalue()
        if "\r" in written:
            # Before Python 3.13 `csv` leaves it without quotes, and readers begin a new line there.
            written = "".join(",".join(map(csv_cell, row)) + "\n" for row in rows)
        self._file.write(written.encode())


def _cell(value: Any, kind: ColumnType) -> object:
    if value is None:
        return ""
    if kind == "time":
        return rfc3339(_EPOCH + timedelta(microseconds=value))
    if kind == "texts":
        return msgspec.json.encode(value).decode()
    if kind == "boolean":
        return "true" if value else "false"
    return value


class Parquet:
    """A table in Parquet, compressed with zstd."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError as error:
            raise MissingExtraError("pyarrow", "arrow") from error
        types: dict[ColumnType, Any] = {
            "text": pa.string(),
            "json": pa.string(),
            "time": pa.timestamp("us", tz="UTC"),
            "integer": pa.int64(),
            "number": pa.float64(),
            "texts": pa.list_(pa.string()),
            "boolean": pa.bool_(),
        }
        self._schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
        self._batch = pa.RecordBatch
        self._writer = parquet.ParquetWriter(file, self._schema, compression=_COMPRESSION)
        self._rows: list[dict[str, Any]] = []

    def write(self, events: Sequence[StoredEvent]) -> None:
        self._rows += [row_of(event) for event in events]
        if len(self._rows) >= ROW_GROUP:
            self._flush()

    def close(self) -> None:
        try:
            self._flush()
            self._writer.close()
        finally:
            # Or it would try again when it is collected, into a file that is closed by then.
            self._writer.is_open = False

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_batch(self._batch.from_pylist(self._rows, schema=self._schema))
            self._rows = []
