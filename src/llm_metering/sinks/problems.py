"""Problem documents (RFC 9457) of refusals: what they say, and which event they name.

Sources: OpenMeter's v1 validator, kin-openapi 0.146, says `Error at "/3/subject": …`, and its v3
says `3.subject [min_length]: …` (`openmeter/ingest/httpdriver`, `api/v3`,
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c). Both count
the events of the body from 0.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

__all__ = ["Place", "named_place", "problem_texts"]

_ATTRIBUTES: Final = "specversion|id|source|type|subject|time|data|datacontenttype|dataschema"
# Nothing but numbers and these names: the rest of such a text may quote the event.
_PLACE: Final = re.compile(
    rf'\bat "/(?P<index>\d{{1,6}})\b(?:/(?P<attribute>{_ATTRIBUTES})\b)?'
    rf"|\b(?P<index3>\d{{1,6}})(?:\.(?P<attribute3>{_ATTRIBUTES})\b)?[\w.]* \[\w+\]: "
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a batch the fault is.

    Attributes:
        index: The event, from 0.
        attribute: Its attribute, if one was named.
    """

    index: int
    attribute: str | None

    def __str__(self) -> str:
        # Without the index: it is another one each time the event is sent in other company.
        return f"/{self.attribute}" if self.attribute else "/"


def problem_texts(content_type: str, body: bytes) -> list[str]:
    """Title and detail of a problem document; nothing if the body is none."""
    if "json" not in content_type:
        return []
    try:
        problem = json.loads(body)
    except (ValueError, RecursionError):
        return []
    if not isinstance(problem, dict):
        return []
    texts = [problem.get(key) for key in ("title", "detail")]
    return [text for text in texts if isinstance(text, str)]


def named_place(texts: list[str]) -> Place | None:
    """The first event that a refusal names.

    >>> named_place(['Error at "/3/subject": minimum string length is 1'])
    Place(index=3, attribute='subject')
    """
    found = _PLACE.search("\n".join(texts))
    if found is None:
        return None
    index = found["index"] or found["index3"]
    return Place(int(index), found["attribute"] or found["attribute3"])
