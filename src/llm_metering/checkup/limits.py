"""Whether the store of balances can be used."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import LimitStoreError
from ..limits import LimitsSink
from .finding import Finding, failure, ok

__all__ = ["check_limits"]


def check_limits(sink: LimitsSink) -> Iterator[Finding]:
    """Ask the store of balances; a file that is not there is not made, tables of a database are.

    Args:
        sink: What settles calls there.
    """
    try:
        count = sink.ask()
    except LimitStoreError as error:
        yield failure(
            "sink.reachable",
            str(error),
            means="nobody knows what is left: calls that are held to balances are made unchecked, or "
            "refused, as on_limit_store_error says; what they use waits on disk",
            advice="look at the file with this user's rights, or at the database and the way to it",
            sink=sink.name,
        )
        return
    yield ok(
        "sink.reachable",
        f"{count:,} balances are in {sink.url}"
        if "://" in sink.url
        else f"{count:,} balances are in the home",
        sink=sink.name,
    )
