"""Which packages a test's environment has, and tests of what it has not.

A test says what it is about, `@pytest.mark.needs("v3_events")`; one that needs what is not installed
is not run, and pytest counts it as deselected. It is no skip: one of the environments that
`make test` makes has it, and a test there says so.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import pytest

__all__ = ["has", "leave_out"]


def has(package: str, *least: int) -> bool:
    """Whether a package is installed, in that version or a later one."""
    try:
        parts = version(package).split(".")
    except PackageNotFoundError:
        return False
    return tuple(int(part) for part in parts[: len(least)] if part.isdecimal()) >= least


def leave_out(
    config: pytest.Config, items: list[pytest.Item], missing: Callable[..., list[str]]
) -> None:
    """Take the tests that need what is missing out of those that pytest has collected."""
    chosen, others = [], []
    for item in items:
        needs = [name for mark in item.iter_markers("needs") for name in mark.args]
        (others if missing(*needs) else chosen).append(item)
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = chosen
