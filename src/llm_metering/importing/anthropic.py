"""Anthropic's usage: the pages of its usage report API, and the table of its console.

The API's: `GET /v1/organizations/usage_report/messages`, platform.claude.com/docs, "Get Messages Usage
Report", read in November 2026. A page has buckets, a bucket a result for each value of what was
grouped by. `uncached_input_tokens`, `cache_read_input_tokens` and the two of `cache_creation` lie
beside each other, not in each other: their sum is the input. Nobody counts requests there.

The table (the console's export of usage) has a line for each bucket, model, key and workspace: a UTC day
(`2026-09-28`), or an hour or a minute (`2026-03-31 02:00`), as the console shows it. Its columns are
those that github.com/wanlonghenry/aiecon reads (`examples/anthropic_console_usage_to_aiecon.py`, commit
8a34cfd2): `usage_date_utc`, `model_version`, `api_key`, `workspace`, `usage_type`, `context_window`,
`usage_input_tokens_no_cache`, `usage_input_tokens_cache_write_5m`, `usage_input_tokens_cache_write_1h`,
`usage_input_tokens_cache_read`, `usage_output_tokens`, `web_search_count`, `inference_geo`, `speed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from .fields import Fields, RowError
from .values import UsageFile, UsageRow

__all__ = ["TABLE_COLUMNS", "read_pages", "read_table"]

TABLE_COLUMNS: Final = ("usage_date_utc", "usage_input_tokens_no_cache", "usage_output_tokens")
"""By these the table is known."""

PAGE_SUBJECT_KEYS: Final = ("workspace_id", "api_key_id", "account_id", "service_account_id")
TABLE_SUBJECT_KEYS: Final = ("workspace", "api_key")
_PAGE_KEYS: Final = (
    *PAGE_SUBJECT_KEYS,
    *("model", "service_tier", "context_window", "inference_geo", "speed"),
)
_TABLE_KEYS: Final = {
    **{name: name for name in TABLE_SUBJECT_KEYS},
    "model_version": "model",
    **{name: name for name in ("usage_type", "context_window", "inference_geo", "speed")},
}
_NEEDED: Final = (
    "usage_input_tokens_no_cache",
    "usage_input_tokens_cache_write_5m",
    "usage_input_tokens_cache_write_1h",
    "usage_input_tokens_cache_read",
    "usage_output_tokens",
)


def read_pages(pages: Iterable[Mapping[str, Any]]) -> UsageFile:
    """Read pages, or single buckets.

    Raises:
        RowError: If one is in another shape, or holds what cannot be imported.
    """
    reader = _Reader()
    has_more = False
    number = 0
    for page in pages:
        buckets = [page]
        if "data" in page:
            has_more = page.get("has_more") is True
            buckets = page["data"]
        if not isinstance(buckets, list):
            raise RowError("a page of Anthropic's usage report has a list of buckets in 'data'")
        for bucket in buckets:
            number += 1
            results = bucket.get("results") if isinstance(bucket, Mapping) else None
            if not isinstance(results, list):
                raise RowError(f"bucket {number} has no list of results")
            for place, result in enumerate(results, 1):
                where = f"bucket {number}, result {place}"
                if not isinstance(result, Mapping):
                    raise RowError(f"{where}: it is no object")
                reader.add_result(where, number, bucket, result)
    return reader.file("anthropic.messages", PAGE_SUBJECT_KEYS, has_more=has_more)


def read_table(lines: Iterable[tuple[int, Mapping[str, str]]]) -> UsageFile:
    """Read the lines of a console's table.

    Raises:
        RowError: If one holds what cannot be imported.
    """
    reader = _Reader()
    found = list(lines)
    width = _width(line["usage_date_utc"] for _, line in found)
    for number, line in found:
        reader.add_line(f"line {number}", line, width)
    return reader.file("anthropic.console", TABLE_SUBJECT_KEYS, has_more=False)


class _Reader:
    def __init__(self) -> None:
        self._rows: list[UsageRow] = []
        self._empty = 0
        self._ignored: set[str] = set()

    def add_result(
        self, where: str, number: int, bucket: Mapping[str, Any], result: Mapping[str, Any]
    ) -> None:
        """Read one result of a page."""
        try:
            times, fields = Fields(bucket, is_table=False), Fields(result, is_table=False)
            start, end = times.moment("starting_at"), times.moment("ending_at")
            created, tools = fields.inner("cache_creation"), fields.inner("server_tool_use")
            keys = {name: text for name in _PAGE_KEYS if (text := fields.text(name)) is not None}
            counts = _counts(
                fields.needed("uncached_input_tokens"),
                fields.needed("cache_read_input_tokens"),
                created.needed("ephemeral_5m_input_tokens"),
                created.needed("ephemeral_1h_input_tokens"),
                fields.needed("output_tokens"),
                tools.count("web_search_requests"),
            )
            self._ignored.update([*fields.rest(), *created.rest(), *tools.rest()])
            self._add(where, number, start, end, keys, counts)
        except RowError as error:
            raise RowError(f"{where}: {error}") from None

    def add_line(self, where: str, line: Mapping[str, str], width: timedelta) -> None:
        """Read one line of a table, whose buckets are that wide."""
        fields = Fields(line, is_table=True)
        try:
            start = _start(fields.text("usage_date_utc") or "", width)
            keys = {
                key: text
                for name, key in _TABLE_KEYS.items()
                if (text := fields.text(name)) is not None
            }
            uncached, created_5m, created_1h, read, output = map(fields.needed, _NEEDED)
            searches = fields.count("web_search_count")
            counts = _counts(uncached, read, created_5m, created_1h, output, searches)
            self._ignored.update(fields.rest())
            self._add(where, 0, start, start + width, keys, counts)
        except RowError as error:
            raise RowError(f"{where}: {error}") from None

    def _add(
        self,
        where: str,
        bucket: int,
        start: datetime,
        end: datetime,
        keys: dict[str, str],
        counts: dict[str, int],
    ) -> None:
        if start >= end:
            raise RowError("its ending_at is not after its starting_at")
        if not any(counts.values()):
            self._empty += 1
            return
        self._rows.append(
            UsageRow(where=where, bucket=bucket, start=start, end=end, keys=keys, counts=counts)
        )

    def file(self, kind: str, subject_keys: tuple[str, ...], *, has_more: bool) -> UsageFile:
        """All of it."""
        return UsageFile(
            provider="anthropic",
            kind=kind,
            operation="chat",
            subject_keys=subject_keys,
            rows=self._rows,
            empty=self._empty,
            ignored=tuple(sorted(self._ignored)),
            has_more=has_more,
        )


def _width(moments: Iterable[str]) -> timedelta:
    """How wide the buckets of a table are, which it does not say: as its moments look."""
    found = list(moments)
    if all(len(each) <= len("2026-11-21") for each in found):
        return timedelta(days=1)
    return (
        timedelta(hours=1) if all(each.endswith(":00") for each in found) else timedelta(minutes=1)
    )


def _start(text: str, width: timedelta) -> datetime:
    form = "%Y-%m-%d" if width.days else "%Y-%m-%d %H:%M"
    try:
        return datetime.strptime(text, form).replace(tzinfo=UTC)
    except ValueError:
        raise RowError(
            "its usage_date_utc is no day such as 2026-11-21, and no moment such as 2026-11-21 09:00"
        ) from None


def _counts(
    uncached: int, read: int, created_5m: int, created_1h: int, output: int, searches: int | None
) -> dict[str, int]:
    total_in = uncached + read + created_5m + created_1h
    counts = {
        "input_tokens": total_in,
        "output_tokens": output,
        "total_tokens": total_in + output,
        "prompt_tokens": total_in,
        "completion_tokens": output,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": created_5m + created_1h,
        "cache_creation_5m_input_tokens": created_5m,
        "cache_creation_1h_input_tokens": created_1h,
    }
    return counts if searches is None else counts | {"web_search_requests": searches}
