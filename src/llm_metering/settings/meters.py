"""The check of the setting `meters`: meters of the user's own, from the file or from code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from ..errors import ConfigurationError, MeterError
from .delivering import EVENT_TYPE_WANTED, is_event_type
from .found import Found, refusal

if TYPE_CHECKING:
    from ..meters import MeterDefinition

__all__ = ["METER_KEYS", "read_meters"]

METER_KEYS: Final = {
    "event_type": "a string",
    "aggregation": "a string",
    "value_property": "a string",
    "group_by": "a list of keys, or a table of JSONPaths by key,",
    "estimates": "true or false",
    "description": "a string",
}
"""What a meter's table may hold, and what is wanted there."""

_LONGEST_DESCRIPTION: Final = 1024
"""As OpenMeter takes it (`MeterCreate` of `api/openapi.yaml`)."""


def read_meters(found: Found) -> tuple[MeterDefinition, ...]:
    """The user's own meters, in the order they were found.

    Args:
        found: Tables by slug, as TOML has them, or a list of `MeterDefinition` and of dicts with a
            `slug`.

    Raises:
        ConfigurationError: Naming the meter, what is wanted, and the place.
    """
    # Here, not above: most processes have no meter of their own and ask for no usage.
    from ..meters import METERS, PRICED_METERS

    own: dict[str, MeterDefinition] = {}
    for meter in _each(found):
        _check(found, meter)
        if meter.slug in METERS or meter.slug in PRICED_METERS:
            raise _wrong(found, meter.slug, "it is built in; choose another slug for yours")
        if meter.slug in own:
            raise _wrong(found, meter.slug, "it is there twice")
        own[meter.slug] = meter
    return tuple(own.values())


def _each(found: Found) -> Iterator[MeterDefinition]:
    from ..meters import MeterDefinition

    value = found.value
    if isinstance(value, Mapping):
        for slug, table in value.items():
            yield _defined(found, slug, table)
        return
    wanted = "tables by slug, or a list of MeterDefinition or of dicts with a slug, are wanted"
    if not isinstance(value, Iterable) or isinstance(value, str | bytes):
        raise refusal("meters", found, wanted)
    for given in value:
        if isinstance(given, MeterDefinition):
            yield given
        elif isinstance(given, Mapping) and "slug" in given:
            table = {key: each for key, each in given.items() if key != "slug"}
            yield _defined(found, given["slug"], table)
        else:
            raise refusal("meters", Found(given, found.origin), wanted)


def _defined(found: Found, slug: object, table: object) -> MeterDefinition:
    if not isinstance(slug, str):
        raise refusal("meters", Found(slug, found.origin), "a slug is a string")
    if not isinstance(table, Mapping):
        wanted = "a table is wanted, and MeterDefinitions in a list"
        raise _wrong(found, slug, f"{wanted}, got {table!r}")
    from ..meters import MeterDefinition

    if isinstance(keys := table.get("group_by"), Iterator):
        # It can be gone through once alone, and would be empty the second time.
        table = {**table, "group_by": tuple(keys)}
    for key, value in table.items():
        if key not in METER_KEYS:
            known = ", ".join(METER_KEYS)
            raise _wrong(found, slug, f"there is no {key!r}; there are {known}")
        if key == "estimates":
            fits = isinstance(value, bool)
        elif key == "group_by":
            texts = [*value, *value.values()] if isinstance(value, Mapping) else value
            fits = not isinstance(value, str) and isinstance(value, Iterable)
            fits = fits and all(isinstance(text, str) for text in texts)
        else:
            fits = isinstance(value, str)
        if not fits:
            raise _wrong(found, slug, f"{METER_KEYS[key]} is wanted for {key}, got {value!r}")
    keys = table.get("group_by", ())
    paths = keys if isinstance(keys, Mapping) else {key: f"$.{key}" for key in keys}
    try:
        return MeterDefinition(slug=slug, **{**table, "group_by": paths})
    except MeterError as error:
        raise ConfigurationError("meters", f"{error} ({found.origin})") from None


def _check(found: Found, meter: MeterDefinition) -> None:
    """Refuse what OpenMeter would (`openmeter/meter/meter.go`), and what could not be asked there."""
    if not is_event_type(meter.event_type):
        raise _wrong(found, meter.slug, f"{EVENT_TYPE_WANTED}, got {meter.event_type!r}")
    if len(meter.description) > _LONGEST_DESCRIPTION:
        wanted = f"at most {_LONGEST_DESCRIPTION} characters are wanted for description"
        raise _wrong(found, meter.slug, f"{wanted}, got {len(meter.description)}")
    for key, path in meter.group_by.items():
        if path == meter.value_property:
            raise _wrong(found, meter.slug, f"key {key!r} of group_by is its value_property {path}")
    if not meter.estimates and meter.group_by.get("provenance", "$.provenance") != "$.provenance":
        # By this key an OpenMeter server is told to leave estimates out.
        wanted = "with estimates = false the key 'provenance' of group_by is $.provenance"
        raise _wrong(found, meter.slug, f"{wanted}, got {meter.group_by['provenance']!r}")


def _wrong(found: Found, slug: str, what: str) -> ConfigurationError:
    return ConfigurationError("meters", f"meter {slug}: {what} ({found.origin})")
