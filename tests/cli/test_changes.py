"""What has grown from look to look."""

from llm_metering.cli.watching.changes import Changes


def test_the_first_look_has_nothing_before_it():
    """Nobody knows what changed before the first look."""
    changes = Changes()
    changes.observe({"acme": 100}, 7.0)

    assert changes.since("acme") is None
    assert changes.per_minute("acme") is None


def test_growth_since_the_look_before():
    """What is new, what has grown, what stayed and what went are told apart."""
    changes = Changes()
    changes.observe({"acme": 100, "zoo": 5, "gone": 3}, 0.0)
    changes.observe({"acme": 130, "zoo": 5, "new": 7}, 2.0)

    assert [changes.since(name) for name in ("acme", "zoo", "new", "gone")] == [30, 0, 7, -3]
    assert changes.per_minute("acme") == 30 * 30
    changes.observe({"acme": 130, "zoo": 5, "new": 7}, 4.0)
    assert changes.since("acme") == 0
    assert changes.per_minute("acme") == 30 * 15


def test_a_rate_is_of_the_last_minute():
    """What came longer ago than a minute is in no rate, and is not kept."""
    changes = Changes()
    total = 0
    for second in range(0, 601, 2):
        total += 1000 if second == 10 else 2
        changes.observe({"acme": total}, float(second))

    assert changes.per_minute("acme") == 60
    assert len(changes._recent) == 30
