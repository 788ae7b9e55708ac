"""Events of tokens alone, which SQLite prices: the same as if each had been looked at."""

import json
import sqlite3
import tempfile
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_metering.ledger import Ledger, _plain, _rows, pricing
from llm_metering.ledger._pricer import Pricer
from llm_metering.prices.quantities import Counted
from llm_metering.sinks.base import Envelope
from tests.factories import NOON, batch_of, make_event

from .pricing import Prices, card

AMOUNTS = (
    *("cache_creation_1h_input_tokens", "input_audio_tokens", "input_image_tokens"),
    *("input_video_tokens", "output_audio_tokens", "output_image_tokens", "web_search_requests"),
    *("web_fetch_requests", "code_execution_requests", "search_units", "classifications"),
    *("images", "audio_seconds"),
)
OTHERS = ("billed_input_tokens", "billed_output_tokens", "reported_cost", "quantity", "unit")
NAMES = st.sampled_from([None, "", "m", "n", "gpt-5-mini", "M"])
COUNT = st.one_of(
    st.none(), st.integers(0, 9), st.sampled_from([200, 1 << 28, (1 << 28) + 1, 10**12])
)
RATE = st.sampled_from(["0", "0.075", "3", "15.5", "2147.483648", "2147.483649", "1000000"])


def payload(number, data, *, hours=0):
    """An event, with data of any kind."""
    made = {
        "specversion": "1.0",
        "id": f"e-{number}",
        "source": "tests",
        "type": "llm.usage",
        "subject": f"c-{number % 2}",
        "time": (NOON + timedelta(hours=hours)).isoformat(),
        "data": {name: value for name, value in data.items() if value is not None},
    }
    return Envelope(made["id"], json.dumps(made).encode())


def body(chance):
    """An event's data: mostly plain."""
    counts = chance.choice(
        [(0, 1, 5, 6, 7), (0, 100, 200, 201), (0, 1 << 28, (1 << 28) + 1, 10**12)]
    )
    data = {
        "provider": chance.choice([None, "openai", "openai", ""]),
        "model": chance.choice(["m", "m", "n", "gpt-5-mini", "M", None, ""]),
        "provenance": chance.choice([None, "reported", "estimated"]),
        "service_tier": chance.choice([None, None, "", "default", "flex"]),
        "operation": chance.choice(["chat", "embeddings"]),
        "input_tokens": chance.choice(counts),
        "output_tokens": chance.choice([*counts, None]),
        "cache_read_input_tokens": chance.choice([None, 0, 1, 5]),
        "cache_creation_input_tokens": chance.choice([None, None, 0, 1]),
        "reasoning_output_tokens": chance.choice([None, 0, 1]),
        "calls": chance.choice([None, 0, 1, 3]),
    }
    if chance.random() < 0.2:
        data[chance.choice(AMOUNTS)] = chance.choice([0, 0.0, 1, 2.5, "2", "", False])
    if chance.random() < 0.1:
        name = chance.choice(OTHERS)
        data[name] = "pages" if name == "unit" else chance.choice([0, 3, 0.25])
    return data


@st.composite
def lists(draw):
    """A list of prices by model, size, tier and time, with kinds that have none."""

    def made(model, **more):
        kinds = draw(st.sampled_from([["input", "output"], ["input", "output"], ["input"]]))
        kinds = [
            *kinds,
            *draw(st.sets(st.sampled_from(["cache_read", "cache_write", "reasoning"]))),
        ]
        kinds += draw(st.sampled_from([[], [], [], ["requests"]]))
        return card(model, **{each: draw(RATE) for each in kinds}, **more)

    cards, changes, tiers = {}, {}, {}
    for model in ("m", "n", "gpt-5-mini"):
        if draw(st.integers(0, 4)):
            cards[model] = [made(model)]
            if draw(st.booleans()):
                cards[model] += [made(model, above=5), made(model, above=200)]
        if draw(st.integers(0, 3)) == 0:
            changes[model] = [(NOON + timedelta(hours=draw(st.integers(0, 9))), made(model))]
        if draw(st.booleans()):
            tiers[model, "flex"] = made(model)
    return Prices(cards, changes=changes, tiers=tiers, is_own=draw(st.booleans()))


def costs(path):
    """All rows, with what their numbers stand for."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        found = connection.execute(
            "SELECT * FROM costs JOIN price_cards USING (card) JOIN kinds USING (kind) ORDER BY place"
        )
        return [{**row, "card": None, "kind": None} for row in map(dict, found)]


@settings(max_examples=60, deadline=None)
@given(chance=st.randoms(use_true_random=False), prices=lists(), pruned=st.integers(-9, 9))
def test_the_same_as_one_by_one(chance, prices, pruned):
    """Whatever the events and the prices: SQLite and the pricer say the same, by number and reason."""
    many = [(body(chance), chance.randrange(10)) for _ in range(60)]
    # Twice, since what was not met before is looked at one by one.
    batch = [
        payload(2 * number + again, data, hours=hours)
        for again in (0, 1)
        for number, (data, hours) in enumerate(many)
    ]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(pricing, "CAREFULLY", len(many))
        paths = [Path(folder) / "a.db", Path(folder) / "b.db"]
        for path in paths:
            with closing(Ledger(path)) as ledger:
                assert not ledger.deliver(batch).retryable
                with ledger._handle.writing() as writer:
                    before = int((NOON + timedelta(hours=pruned)).timestamp()) * 1_000_000
                    writer.execute("UPDATE events SET payload = '' WHERE time < ?", (before,))
                    if path is paths[1]:
                        writer.execute("UPDATE events SET plain_tier = NULL")
                ledger.price({"cost": prices})
                assert ledger.recount() == []
        assert costs(paths[0]) == costs(paths[1])


def test_sqlite_prices_what_is_plain(tmp_path, monkeypatch):
    """Once others like it were met; also what has no price, by tier, size and time."""
    careful = []
    rows = Pricer.rows
    monkeypatch.setattr(
        Pricer, "rows", lambda self, events: careful.append(len(events)) or rows(self, events)
    )
    monkeypatch.setattr(pricing, "CAREFULLY", 8)
    prices = Prices(
        {"m": [card("m"), card("m", above=1000, input="6", output="30")], "n": card("n")},
        tiers={("m", "flex"): card("m", input="1.5", output="7.5")},
        changes={"n": [(NOON + timedelta(hours=5), card("n", input="1", output="2"))]},
    )
    kinds = [
        ({"model": "m"}, 0),
        ({"model": "m", "input_tokens": 5000}, 0),
        ({"model": "m", "service_tier": "flex"}, 0),
        ({"model": "n"}, 0),
        ({"model": "n"}, 7),
        ({"model": "unknown"}, 0),
        ({"model": "m", "web_search_requests": 0, "service_tier": ""}, 0),
        ({"model": "m", "web_search_requests": 1}, 0),
    ]
    batch = [
        payload(
            number,
            {"provider": "openai", "input_tokens": 100, "output_tokens": 20, "calls": 1, **data},
            hours=hours,
        )
        for number in range(80)
        for data, hours in [kinds[number % 8]]
    ]
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        ledger.deliver(batch)
        done = ledger.price({"cost": prices})

    # The first of each, and then what is not plain.
    assert (careful[0], sum(careful)) == (8, 8 + 9)
    assert (done.events, done.unpriced) == ({"cost": 80}, {"cost": 20})
    found = costs(tmp_path / "ledger.db")
    expected = [
        *(100 * 3 + 20 * 15, 5000 * 6 + 20 * 30, 100 * 1.5 + 20 * 7.5, 100 * 3 + 20 * 15),
        *(100 + 40, None, 100 * 3 + 20 * 15, None),
    ]
    assert [each["picos"] for each in found] == [
        None if each is None else int(Decimal(each) * 1_000_000) for each in expected
    ] * 10


def test_what_would_be_beyond_64_bits_is_looked_at(tmp_path, monkeypatch):
    """A cost that is too large has no price, and never becomes a number that is not exact."""
    monkeypatch.setattr(pricing, "CAREFULLY", 2)
    prices = Prices({"m": card("m", input="1000000", output="1"), "n": card("n", input="2147")})
    data = {"provider": "openai", "output_tokens": 0}
    counts = [("m", 1), ("n", 1), ("m", 1 << 28), ("n", 1 << 28), ("m", 1 << 22), ("n", 10**12)]
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        ledger.deliver(
            payload(number, {**data, "model": model, "input_tokens": tokens})
            for number, (model, tokens) in enumerate(counts)
        )
        ledger.price({"cost": prices})
    assert [each["picos"] for each in costs(tmp_path / "ledger.db")] == [
        *(10**12, 2147 * 10**6, None, 2147 * 10**6 << 28, 10**12 << 22, None)
    ]


@pytest.mark.parametrize("aboves", [(0, 9, 9), (0, 200, 100), (0, 0)])
def test_sizes_that_contradict_each_other_are_looked_at(tmp_path, monkeypatch, aboves):
    """A list of somebody's own may have them; what the pricer makes of them holds."""
    monkeypatch.setattr(pricing, "CAREFULLY", 4)
    cards = [card("m", above=above, input=str(above + 1)) for above in aboves]
    counts = (1, 10, 250, 150, 1, 9, 10, 150, 250)
    paths = [tmp_path / "a.db", tmp_path / "b.db"]
    for path in paths:
        with closing(Ledger(path)) as ledger:
            data = {"model": "m", "output_tokens": 0}
            batch = [
                payload(number, {**data, "input_tokens": count})
                for number, count in enumerate(counts)
            ]
            ledger.deliver(batch)
            if path is paths[1]:
                with ledger._handle.writing() as writer:
                    writer.execute("UPDATE events SET plain_tier = NULL")
            ledger.price({"cost": Prices({"m": cards})})
    assert costs(paths[0]) == costs(paths[1])


def test_prices_by_the_time_of_day_are_looked_up(tmp_path, monkeypatch):
    """Of hundreds of periods SQLite would look through all for each event."""
    careful = []
    rows = Pricer.rows
    monkeypatch.setattr(
        Pricer, "rows", lambda self, events: careful.append(len(events)) or rows(self, events)
    )
    monkeypatch.setattr(pricing, "CAREFULLY", 24)
    changes = [(NOON + timedelta(hours=each), card("m", input=str(each + 1))) for each in range(24)]
    prices = Prices({"m": card("m")}, changes={"m": changes})
    data = {"model": "m", "input_tokens": 1, "output_tokens": 0}
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        ledger.deliver([payload(number, data, hours=number % 24) for number in range(72)])
        assert ledger.price({"cost": prices}).events == {"cost": 72}
    assert [each["picos"] for each in costs(tmp_path / "ledger.db")] == [
        (each + 1) * 1_000_000 for each in range(24)
    ] * 3
    assert sum(careful) == 72


def test_a_price_of_no_time_at_all_stops_nothing(tmp_path, monkeypatch):
    """A list of somebody's own may say that a price ends as it begins."""
    monkeypatch.setattr(pricing, "CAREFULLY", 2)

    class Empty(Prices):
        def find(self, provider, model, *, time, service_tier):
            return self._said(card(), NOON, NOON)

    data = {"model": "m", "input_tokens": 1, "output_tokens": 0}
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        ledger.deliver([payload(number, data) for number in range(6)])
        assert ledger.price({"cost": Empty({})}).unpriced == {"cost": 0}


def test_of_two_prices_that_hold_at_once_none_is_taken_twice(tmp_path, monkeypatch):
    """A list may contradict itself: the price that was found first holds, as if one by one."""
    monkeypatch.setattr(pricing, "CAREFULLY", 2)

    class Contradicting(Prices):
        def find(self, provider, model, *, time, service_tier):
            late = time > NOON
            return self._said(card(input="1" if late else "3"), None, None if late else self.until)

    prices = Contradicting({})
    prices.until = NOON + timedelta(hours=1)
    data = {"model": "m", "input_tokens": 100, "output_tokens": 0}
    hours = (0, 2, 0, 2, 0)
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        ledger.deliver([payload(number, data, hours=each) for number, each in enumerate(hours)])
        assert ledger.price({"cost": prices}).events == {"cost": 5}
        assert ledger.recount() == []


@pytest.mark.parametrize(
    ("data", "tier"),
    [
        ({}, ""),
        ({"service_tier": "flex"}, "flex"),
        ({"service_tier": 3}, None),
        *[({name: 0}, "") for name in AMOUNTS],
        *[({name: 1}, None) for name in AMOUNTS],
        *[({name: 0}, None) for name in OTHERS if name != "unit"],
        ({"unit": "pages"}, None),
        # What the pricer takes for a mistake is not plain, though it is nothing.
        *[({"images": odd}, None) for odd in ("", False, [], {})],
        ({"input_audio_tokens": 0.0}, None),
        ({"images": 0.0}, ""),
        ({"dimensions": {"team": "a"}, "images_seen": 4}, ""),
        ({"input_tokens": 3, "provider": ""}, ""),
        ({"provider": 3}, None),
    ],
)
def test_which_events_are_plain(data, tier):
    row = _rows.read_row(payload(1, data).payload)
    assert dict(zip(_rows.ALL_COLUMNS, row, strict=True))["plain_tier"] == tier


def test_all_that_decides_about_a_cost_decides_about_plainness():
    """What is new there has to be here, too."""
    columns = {"provider", "model", "operation", "provenance", "status"} | set(_rows.COLUMNS)
    assert {*AMOUNTS, *OTHERS, "service_tier"} == set(Counted.__struct_fields__) - columns
    assert set(Counted.__struct_fields__) <= set(_rows._Data.__struct_fields__)


def test_what_is_odd_in_one_place_is_odd_in_the_other():
    """The same types, but for counts of which only those from 0 have a column."""
    counted, taken = (get_type_hints(each) for each in (Counted, _rows._Data))
    for name in (*AMOUNTS, *OTHERS, "service_tier"):
        assert counted[name] == taken[name], name


def test_an_event_that_an_older_library_inserted_is_looked_at(tmp_path):
    """Nobody has said whether it is plain."""
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        ledger.deliver(batch_of(make_event() for _ in range(3)))
        with ledger._handle.writing() as writer:
            writer.execute("UPDATE events SET plain_tier = NULL")
        assert ledger.price({"cost": Prices({"gpt-5-mini": card()})}).unpriced == {"cost": 0}
    assert _plain._LARGEST * _plain._DEAREST * 5 < 1 << 62
