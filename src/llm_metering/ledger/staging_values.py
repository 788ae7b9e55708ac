"""What `Staging` says of the events that it has gathered."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Counts", "Differing", "Sum"]


class Differing(NamedTuple):
    """An event that is there under the same source and id, with another content.

    Attributes:
        place: Of the new one.
        payload: The new one.
        stored: The one that is there; empty if its body was pruned.
        columns: The columns in which they differ.
    """

    place: int
    payload: bytes
    stored: bytes
    columns: tuple[str, ...]


class Counts(NamedTuple):
    """How many events are new, known to the ledger, or in the file before."""

    new: int
    known: int
    repeated: int


class Sum(NamedTuple):
    """What new events of a subject and a model add up to; `None` is what none of them knows."""

    subject: str
    model: str | None
    events: int
    input_tokens: int | None
    output_tokens: int | None
    total_tokens: int | None
    calls: int | None
