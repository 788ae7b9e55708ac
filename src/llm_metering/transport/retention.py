"""How long, and how much of, what every sink has had is kept."""

from __future__ import annotations

from dataclasses import dataclass

from ..settings.checks import DEFAULT_RETENTION_BYTES, DEFAULT_RETENTION_HOURS

__all__ = ["Retention"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What becomes of segments that every sink has had.

    Attributes:
        hours: How long they are kept from then on; 0 deletes them at once.
        max_bytes: What they may take on disk together; the oldest go first.
    """

    hours: float = DEFAULT_RETENTION_HOURS
    max_bytes: int = DEFAULT_RETENTION_BYTES

    @property
    def keeps_nothing(self) -> bool:
        """Whether segments are deleted at once."""
        return not (self.hours and self.max_bytes)
