"""Comparing what was recorded with what a server lists and counts, and sending again what is missing."""

from __future__ import annotations

from .findings import FAULTS, KINDS, Finding, Kind, count_kinds, off_by_subject
from .running import LAG, SETTLE, Reconciler
from .totals import MeterTotals, SubjectTotal

__all__ = [
    "FAULTS",
    "KINDS",
    "LAG",
    "SETTLE",
    "Finding",
    "Kind",
    "MeterTotals",
    "Reconciler",
    "SubjectTotal",
    "count_kinds",
    "off_by_subject",
]
