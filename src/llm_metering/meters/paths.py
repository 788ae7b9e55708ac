"""JSONPaths of meters: where in an event's `data` a number or a name stands.

Source: RFC 9535, section 2.3.5.1: of JSONPath, a *singular query*, which names at most one place.
A path that may name several has no one value to sum, and OpenMeter takes the first it finds.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from ..errors import MeterError

__all__ = ["PropertyPath", "parse_path"]

PropertyPath: TypeAlias = tuple[str | int, ...]
"""Keys and, in arrays, indexes, from the outermost inwards."""

_STEP: Final = re.compile(
    r"""
    \.(?P<name>[A-Za-z_\u0080-\U0010FFFF][\w\u0080-\U0010FFFF-]*)
    | \[\s*'(?P<single>[^'\\]+)'\s*\]
    | \[\s*"(?P<double>[^"\\]+)"\s*\]
    | \[\s*(?P<index>0|[1-9][0-9]{0,8})\s*\]
    """,
    re.VERBOSE,
)


def parse_path(text: str) -> PropertyPath:
    """The steps of a JSONPath.

    >>> parse_path("$.usage['input tokens'][0]")
    ('usage', 'input tokens', 0)

    Raises:
        MeterError: If it is no JSONPath, or may name several places.
    """
    steps: list[str | int] = []
    at = 1
    while text.startswith("$") and (step := _STEP.match(text, at)):
        index = step["index"]
        steps.append(int(index) if index else step["name"] or step["single"] or step["double"])
        at = step.end()
    if not steps or at != len(text):
        raise MeterError(
            f"{text!r} is no JSONPath of one place in an event's data; write it like "
            "$.total_tokens, $.usage['input tokens'] or $.items[0].count"
        )
    if any(isinstance(step, str) and ('"' in step or not step.isprintable()) for step in steps):
        # SQLite before 3.45 knows no way to quote these in a path.
        raise MeterError(f"{text!r} has a quote or a control character in a key")
    return tuple(steps)
