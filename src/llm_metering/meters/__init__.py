"""Meters, the questions one can ask them, and the answers.

A meter aggregates one property of one event type, as OpenMeter defines it, and an answer is
OpenMeter's meter query result, so that a ledger and an OpenMeter server can be asked alike.
Source: `Meter`, `MeterQueryResult` and `MeterQueryRow` of OpenMeter's API,
https://github.com/openmeterio/openmeter/blob/main/api/openapi.yaml.
"""

from .definitions import (
    CURRENCY,
    ESTIMATES,
    METERS,
    PRICED_METERS,
    Aggregation,
    Book,
    MeterDefinition,
)
from .moments import read_moment, rfc3339
from .paths import PropertyPath, parse_path
from .queries import UsageQuery, usage_query
from .reports import UsageReport, UsageRow, Value
from .windows import Window, time_zone_of, window_bounds

__all__ = [
    "CURRENCY",
    "ESTIMATES",
    "METERS",
    "PRICED_METERS",
    "Aggregation",
    "Book",
    "MeterDefinition",
    "PropertyPath",
    "UsageQuery",
    "UsageReport",
    "UsageRow",
    "Value",
    "Window",
    "parse_path",
    "read_moment",
    "rfc3339",
    "time_zone_of",
    "usage_query",
    "window_bounds",
]
