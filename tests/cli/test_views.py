"""What people see of status and settings, in a terminal of 80 columns."""

import pytest
from rich.console import Group

from llm_metering.cli.views import settings_view, status_view

from .test_render import draw

LEDGER = {
    "name": "ledger",
    "url": "ledger:",
    "account": "",
    "state": "ok",
    "reason": None,
    "recorded": 1200,
    "acked": 1200,
    "pending": 0,
    "dead": 0,
    "dropped": 0,
    "suspect": 0,
    "retries": 0,
    "oldest_pending_seconds": None,
}
OPENMETER = {
    **LEDGER,
    "name": "openmeter",
    "url": "openmeter+https://me:hush@om.example",
    "account": "shop",
    "state": "paused",
    "reason": "401 [red]Unauthorized\x1b",
    "acked": 1000,
    "pending": 150,
    "dead": 49,
    "dropped": 1,
    "retries": 12,
    "suspect": 2,
    "oldest_pending_seconds": 7530.2,
}


def statistics(*sinks):
    """The status of a home."""
    return {
        "home": "/srv/usage",
        "recorded": 1200,
        "dropped": {"disk_full": 1, "refused": 0},
        "open_calls": 3,
        "failures": 0,
        "flags": {"subject_conflict": 0, "unattributed": 2},
        "sinks": list(sinks),
    }


def test_status_shows_every_count():
    """The home's counts, each sink's, why a sink is not well, and that all of it adds up."""
    drawn = draw(Group(*status_view(statistics(LEDGER, OPENMETER))))

    assert [line.rstrip() for line in drawn.splitlines()] == [
        "home        /srv/usage",
        "recorded    1,200",
        "dropped     disk_full 1",
        "open calls  3",
        "failures    0",
        "flags       unattributed 2",
        "",
        "sink       state   recorded  acked  pending  dead  dropped     oldest",
        "─────────────────────────────────────────────────────────────────────",
        "ledger     ok         1,200  1,200        0     0        0          -",
        "openmeter  paused     1,200  1,000      150    49        1  2 h 5 min",
        "",
        r"openmeter is paused; 401 [red]Unauthorized\x1b; retries 12; suspect 2",
        "recorded = acked + pending + dead + dropped: holds for every sink",
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"acked": 1100}, id="sum"),
        pytest.param({"acked": 1300, "pending": -100}, id="below zero"),
    ],
)
def test_status_says_when_it_does_not_add_up(wrong):
    """A sink whose counts contradict each other is named, and nothing is said to hold."""
    drawn = draw(Group(*status_view(statistics({**LEDGER, **wrong}, OPENMETER))), width=200)

    assert "ledger does not add up: 1,200 recorded, but" in drawn
    assert "openmeter does not add up" not in drawn
    assert "holds for every sink" not in drawn


def test_sinks_of_one_name_are_told_apart():
    """A home that is owed to two sinks of one name shows where each of them is, without secrets."""
    other = {**OPENMETER, "url": "openmeter+https://other.example", "account": ""}

    drawn = draw(Group(*status_view(statistics(LEDGER, OPENMETER, other))), width=200)

    assert "openmeter openmeter+https://***@om.example shop  paused" in drawn
    assert "openmeter openmeter+https://other.example        paused" in drawn
    assert "hush" not in drawn


def test_counts_added_by_a_later_version_are_shown():
    """Whatever else the status counts is shown, not left out."""
    more = {"ignored_signals": {"late_usage": 2}, "damage": {"torn_bytes": 0}, **statistics()}

    drawn = draw(Group(*status_view(more)))

    assert "ignored signals  late_usage 2\n" in drawn
    assert "damage           none\n" in drawn


def test_settings_are_readable():
    """Values of every type have a form for people."""
    rows = [
        ("home", "/srv", "environment LLM_METERING_HOME"),
        ("sinks", ("a:", "b:"), "argument"),
        ("subject", None, "default"),
        ("ledger", False, "file /x"),
        ("durability", True, "default"),
    ]

    drawn = draw(settings_view(rows))

    assert [line.split() for line in drawn.splitlines()[2:]] == [
        ["home", "/srv", "environment", "LLM_METERING_HOME"],
        ["sinks", "a:", "argument"],
        ["b:"],
        ["subject", "not", "set", "default"],
        ["ledger", "off", "file", "/x"],
        ["durability", "on", "default"],
    ]
