"""`Choices`: what the fields of a form offer."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from ..questions import keys_of
from ..stored_meters import StoredMeter
from .views import PERIODS, View

__all__ = ["Choices", "choices_of"]

_FORM = ("from", "to", "windowTimeZone", "key", "value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the fields of a form offer.

    Attributes:
        meters: Slugs.
        keys: What usage of the meter can be told apart by.
        periods: What moving periods are called.
        zones: Names of time zones.
        subjects: Some subjects.
        chosen: What the address says, by parameter; of one that comes twice the last.
        is_special: Whether something is chosen that most readers do not.
    """

    meters: tuple[str, ...]
    keys: tuple[str, ...]
    periods: Mapping[str, str]
    zones: tuple[str, ...]
    subjects: tuple[str, ...]
    chosen: Mapping[str, str]
    is_special: bool


def choices_of(
    view: View,
    meters: Sequence[StoredMeter],
    *,
    subjects: Iterable[str] = (),
    has_subjects: bool = True,
) -> Choices:
    """What a form about a view offers.

    Args:
        view: The view.
        meters: The meters that the reader may see.
        subjects: Some subjects.
        has_subjects: Whether usage is told apart by subject.
    """
    chosen = dict(view.chosen)
    found = next((each for each in meters if each.slug == view.meter), None)
    keys = sorted(keys_of(found.definition)) if found is not None else []
    return Choices(
        meters=tuple(sorted(each.slug for each in meters)),
        keys=(*(("subject",) if has_subjects else ()), *keys),
        periods=PERIODS,
        zones=_zones(),
        subjects=tuple(subjects),
        chosen=chosen,
        is_special=any(chosen.get(name) for name in _FORM),
    )


@cache
def _zones() -> tuple[str, ...]:
    # Without the hundreds of old names of the same zones.
    known = zoneinfo.available_timezones()
    regions = ("Africa", "America", "Antarctica", "Asia", "Atlantic", "Australia", "Europe")
    return (
        "UTC",
        *sorted(
            each
            for each in known
            if each.partition("/")[0] in (*regions, "Indian", "Pacific") and "/" in each
        ),
    )
