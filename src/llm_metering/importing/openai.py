"""OpenAI's usage: the pages of its organization usage API, and the table of its dashboard.

The API's: openai 3.54.0, `openai/types/admin/organization/usage_completions_response.py` (and
`…_embeddings_…`, `…_moderations_…`), of `GET /v1/organization/usage/completions` and its siblings. A
page has buckets, a bucket has a result for each value of what was grouped by. There `input_tokens`
has cached tokens, cache writes, audio and images in it, and `input_audio_tokens` are those that were
not cached. Earlier versions of the same API said of `input_tokens` that they are of text alone: such
a result has no `input_text_tokens`, and with audio in it nobody could tell which it is.

The table (`completions_usage_<from>_<to>.csv` of platform.openai.com/usage) has a line for each result,
with the same names, numbers such as `10.0`, and a line without numbers for an empty bucket; as
exported on 2025-10-12 in github.com/xavierjflanagan/Guardian
(`openai-usage-and-cost-report-2025-10-12.md`, commit 69d31e9c). Of other tables no example is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from .fields import Fields, RowError
from .values import UsageFile, UsageRow

__all__ = ["TABLE_COLUMNS", "read_pages", "read_table"]

TABLE_COLUMNS: Final = ("start_time", "end_time", "input_tokens", "output_tokens")
"""By these the table is known."""

SUBJECT_KEYS: Final = ("project_id", "user_id", "api_key_id")
_KEYS: Final = (*SUBJECT_KEYS, "model", "batch", "service_tier", "api_source")
_RESULT: Final = "organization.usage.{}.result"
_LABELS: Final = (
    *("start_time_iso", "end_time_iso", "project_name", "organization_id", "organization_name"),
    *("user_email", "user_name", "api_key_name"),
)
"""What a table says of an id besides: names and addresses, which events do not carry."""

_SUMS: Final = (
    ("input_tokens", ("input_uncached_tokens", "input_cached_tokens", "input_cache_write_tokens")),
    ("input_uncached_tokens", ("input_text_tokens", "input_audio_tokens", "input_image_tokens")),
    (
        "input_cached_tokens",
        ("input_cached_text_tokens", "input_cached_audio_tokens", "input_cached_image_tokens"),
    ),
    ("output_tokens", ("output_text_tokens", "output_audio_tokens", "output_image_tokens")),
)
"""What the parts add up to, where all of them are there; there were no cache writes at first."""


def read_pages(pages: Iterable[Mapping[str, Any]]) -> UsageFile:
    """Read pages, or single buckets.

    Raises:
        RowError: If one is in another shape, or holds what cannot be imported.
    """
    results: list[tuple[str, int, Fields, Mapping[str, Any]]] = []
    has_more = False
    number = 0
    for page in pages:
        if page.get("object") == "page":
            has_more = page.get("has_more") is True
        for bucket in _buckets(page):
            number += 1
            found = bucket.get("results", bucket.get("result"))
            if not isinstance(found, list):
                raise RowError(f"bucket {number} has no list of results")
            for nth, result in enumerate(found, 1):
                where = f"bucket {number}, result {nth}"
                if not isinstance(result, Mapping):
                    raise RowError(f"{where}: it is no object")
                results.append((where, number, Fields(bucket, is_table=False), result))
    kind = _kind_of(results)
    reader = _Reader(kind)
    for where, place, times, result in results:
        reader.add(where, place, times, Fields(result, is_table=False))
    return reader.file(has_more=has_more)


def read_table(lines: Iterable[tuple[int, Mapping[str, str]]]) -> UsageFile:
    """Read the lines of a dashboard's table of completions.

    Raises:
        RowError: If one holds what cannot be imported.
    """
    reader = _Reader("completions")
    for number, line in lines:
        fields = Fields(line, is_table=True)
        reader.add(f"line {number}", 0, fields, fields)
    return reader.file(has_more=False)


def _buckets(page: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = page.get("data") if page.get("object") == "page" else [page]
    if not isinstance(found, list) or not all(
        isinstance(each, Mapping) and each.get("object") == "bucket" for each in found
    ):
        raise RowError("a page of OpenAI's usage has a list of buckets in 'data'")
    return found


def _kind_of(results: Iterable[tuple[str, int, Fields, Mapping[str, Any]]]) -> str:
    kinds = {str(result.get("object")): where for where, _, _, result in results}
    known = {_RESULT.format(kind): kind for kind in _COUNTS}
    for name, where in kinds.items():
        if name not in known:
            raise RowError(
                f"{where}: it is {name!r}; those of {', '.join(known)} can be imported, since others "
                "count no tokens"
            )
    if len(kinds) > 1:
        raise RowError(f"it holds results of several kinds: {', '.join(kinds)}; import each alone")
    return known[next(iter(kinds))] if kinds else "completions"


class _Reader:
    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._rows: list[UsageRow] = []
        self._empty = 0
        self._ignored: set[str] = set()

    def add(self, where: str, bucket: int, times: Fields, fields: Fields) -> None:
        """Read one result."""
        try:
            self._add(where, bucket, times, fields)
        except RowError as error:
            raise RowError(f"{where}: {error}") from None

    def _add(self, where: str, bucket: int, times: Fields, fields: Fields) -> None:
        start, end = times.seconds("start_time"), times.seconds("end_time")
        if start >= end:
            raise RowError("its end_time is not after its start_time")
        fields.pass_over(("object", "start_time", "end_time", *_LABELS))
        keys = {name: text for name in _KEYS if (text := fields.text(name)) is not None}
        if "batch" in keys:
            keys["batch"] = keys["batch"].lower()  # a table has FALSE or False
        if not any(name in fields for name in ("input_tokens", "num_model_requests")):
            fields.rest()
            self._empty += 1
            return
        counts, is_consistent = _COUNTS[self._kind](fields)
        self._ignored.update(fields.rest())
        if not any(counts.values()):
            self._empty += 1
            return
        self._rows.append(
            UsageRow(
                where=where,
                bucket=bucket,
                start=start,
                end=end,
                keys=keys,
                counts=counts,
                is_consistent=is_consistent,
            )
        )

    def file(self, *, has_more: bool) -> UsageFile:
        """All of it."""
        return UsageFile(
            provider="openai",
            kind=f"openai.{self._kind}",
            operation=None if self._kind == "completions" else self._kind,
            subject_keys=SUBJECT_KEYS,
            rows=self._rows,
            empty=self._empty,
            ignored=tuple(sorted(self._ignored)),
            has_more=has_more,
        )


def _completions(fields: Fields) -> tuple[dict[str, int], bool]:
    total_in, total_out = fields.needed("input_tokens"), fields.needed("output_tokens")
    audio, image = fields.count("input_audio_tokens"), fields.count("input_image_tokens")
    writes = [fields.count(f"input_cache_write_{each}tokens") for each in ("", "30m_", "12h_")]
    if (audio or image or fields.count("output_audio_tokens")) and (
        fields.count("input_text_tokens") is None
    ):
        raise RowError(
            "it has tokens of audio or images and no input_text_tokens, as earlier versions of the "
            "API had it, so nobody can tell whether input_tokens has them in it; fetch it anew"
        )
    known = {
        "input_tokens": total_in,
        "output_tokens": total_out,
        "total_tokens": total_in + total_out,
        "prompt_tokens": total_in,
        "completion_tokens": total_out,
        "cache_read_input_tokens": fields.count("input_cached_tokens"),
        "cache_creation_input_tokens": _all(writes[1:]) if writes[0] is None else writes[0],
        "input_cache_write_30m_tokens": writes[1],
        "input_cache_write_12h_tokens": writes[2],
        "input_audio_tokens": _all([audio, fields.count("input_cached_audio_tokens")]),
        "input_image_tokens": _all([image, fields.count("input_cached_image_tokens")]),
        "output_audio_tokens": fields.count("output_audio_tokens"),
        "output_image_tokens": fields.count("output_image_tokens"),
        "calls": fields.needed("num_model_requests"),
    }
    # All of them are looked at, so that none of their names is left unknown.
    agree = [_adds_up(fields, whole, parts) for whole, parts in _SUMS]
    return {name: value for name, value in known.items() if value is not None}, all(agree)


def _embeddings(fields: Fields) -> tuple[dict[str, int], bool]:
    tokens = fields.needed("input_tokens")
    counts = {
        # Nothing is generated, so that this zero is no guess.
        "input_tokens": tokens,
        "output_tokens": 0,
        "total_tokens": tokens,
        "prompt_tokens": tokens,
        "completion_tokens": 0,
        "calls": fields.needed("num_model_requests"),
    }
    return counts, True


_COUNTS: Final[Mapping[str, Callable[[Fields], tuple[dict[str, int], bool]]]] = {
    "completions": _completions,
    "embeddings": _embeddings,
    "moderations": _embeddings,
}


def _all(parts: list[int | None]) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _adds_up(fields: Fields, whole: str, parts: tuple[str, ...]) -> bool:
    total, found = fields.count(whole), [fields.count(part) for part in parts]
    if whole == "input_tokens" and found[-1] is None:
        found[-1] = 0
    added = _all(found)
    return total is None or added is None or total == added
