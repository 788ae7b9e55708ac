"""Ids as OpenMeter's API has them."""

from __future__ import annotations

import re

from llm_metering.ulids import new_ulid, ulid_of

ULID = re.compile("[0-7][0-9A-HJKMNP-TV-Z]{25}")


def test_new_ones_differ_and_are_in_order():
    """Those that are made later come later."""
    made = [new_ulid() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert all(map(ULID.fullmatch, made))
    assert [each[:10] for each in made] == sorted(each[:10] for each in made)


def test_a_name_has_one():
    """The same each time, and another for another; also for what is no Unicode."""
    assert ulid_of("acme") == ulid_of("acme") != ulid_of("Acme")
    assert all(ULID.fullmatch(ulid_of(name)) for name in ("", "acme", "\ud800", "é" * 999))
