"""What this process and this machine are: versions, limits, the clock, functions that freeze."""

from __future__ import annotations

import os
import platform
import resource
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Final

from .finding import Finding, failure, ok, warning

__all__ = ["check_machine"]

OLDEST_SQLITE: Final = (3, 24, 0)
"""The first with UPSERT."""
FEW_FILES: Final = 256
FIRST_YEAR: Final = 2026
"""The first year of this library: a clock before it is wrong."""
LAST_YEAR: Final = 2100


def check_machine(
    *, now: datetime | None = None, environment: Mapping[str, str] = os.environ
) -> Iterator[Finding]:
    """Look at what does not hang on the home."""
    yield _judge_versions()
    yield _judge_clock(now or datetime.now(UTC))
    yield from _check_limits()
    if function := environment.get("AWS_LAMBDA_FUNCTION_NAME"):
        yield warning(
            "machine.lambda",
            f"this is the AWS Lambda function {function}",
            means="it is frozen between calls and thrown away with its /tmp: what was not "
            "delivered by then is lost",
            advice="call llm_metering.flush() before each return, and have a sink beside the "
            "ledger",
        )


def _judge_versions() -> Finding:
    found = (
        f"llm-metering {version('llm-metering')}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, {platform.system()} {platform.machine()}"
    )
    if sqlite3.sqlite_version_info >= OLDEST_SQLITE:
        return ok("machine.versions", found)
    return failure(
        "machine.versions",
        found,
        means="the ledger needs SQLite 3.24 and takes no event",
        advice="use a Python with a newer SQLite, or switch the ledger off "
        "(LLM_METERING_LEDGER=off)",
    )


def _judge_clock(now: datetime) -> Finding:
    found = f"the clock says {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if FIRST_YEAR <= now.year < LAST_YEAR:
        return ok("machine.clock", found)
    return failure(
        "machine.clock",
        found,
        means="usage is recorded in the wrong month, and servers may drop it",
        advice="set the clock (NTP) before anything is metered",
    )


def _check_limits() -> Iterator[Finding]:
    size, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if size != resource.RLIM_INFINITY:
        yield warning(
            "machine.file_size",
            f"no file of this process may be larger than {size:,} bytes (ulimit -f)",
            means="the ledger is one file, and takes no event once it is that large",
            advice="lift the limit (LimitFSIZE=infinity in systemd)",
        )
    else:
        yield ok("machine.file_size", "files may be of any size")
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    shown = "any number of" if files == resource.RLIM_INFINITY else f"{files:,}"
    found = f"this process may have {shown} files open (ulimit -n)"
    if files != resource.RLIM_INFINITY and files < FEW_FILES:
        yield warning(
            "machine.open_files",
            found,
            means="an application with that limit may find no descriptor for a segment or a "
            "connection; events then wait in memory",
            advice="raise it to 1024 or more (LimitNOFILE in systemd)",
        )
    else:
        yield ok("machine.open_files", found)
