"""What holds of the costs of any events, whatever becomes of prices and processes."""

import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_metering.ledger import Ledger, _cost_sums, pricing, repricing
from llm_metering.ledger._files import UnavailableError
from llm_metering.ledger._queries import reports
from llm_metering.meters import usage_query
from llm_metering.prices import Unpriced, cost_of
from llm_metering.token_usage import TokenUsage
from tests.factories import NOON, batch_of, make_event

from . import old_library
from .pricer_process import FIRST, QUESTIONS, SECOND
from .pricing import Prices, card

MODELS = ("gpt-5-mini", "m", "n", None)
RATE = st.sampled_from(["0", "0.075", "3", "15.5", "1000000"])


@st.composite
def usages(draw):
    """Counts, some of which do not fit together."""
    if draw(st.integers(0, 9)) == 0:
        return None
    total = draw(st.integers(0, 5000))
    read = draw(st.integers(0, total))
    written = draw(st.integers(0, total - read))
    output = draw(st.integers(0, 5000))
    return TokenUsage(
        input_tokens=total,
        output_tokens=output,
        cache_read_input_tokens=read or None,
        cache_creation_input_tokens=written or None,
        reasoning_output_tokens=draw(st.integers(0, output)) or None,
    )


@st.composite
def events(draw):
    """An event, of whatever time, with more to it now and then."""
    usage = draw(usages())
    more = {}
    if draw(st.booleans()):
        more["measures"] = draw(
            st.sampled_from(
                [
                    {"web_search_requests": 2},
                    {"reported_cost": 0.0123},
                    {"audio_seconds": 1.5},
                    {"images": 3},
                ]
            )
        )
    if draw(st.integers(0, 9)) == 0:
        more |= {"quantity": draw(st.sampled_from([1, 2.5])), "unit": "pages"}
    known = usage is not None or "quantity" in more
    return make_event(
        usage=usage,
        provenance=draw(st.sampled_from(["reported", "estimated"])) if known else "missing",
        model=draw(st.sampled_from(MODELS)),
        subject=draw(st.sampled_from(["a", "b"])),
        time=NOON + timedelta(hours=draw(st.integers(0, 1500))),
        **more,
    )


@st.composite
def lists(draw):
    """A list of prices, some of which change, or are by size, or lacking."""
    cards, changes = {}, {}
    for model in ("gpt-5-mini", "m", "n"):
        made = [
            card(model, input=draw(RATE), output=draw(RATE), cache_read=draw(RATE)),
            card(model, above=1000, input=draw(RATE), output=draw(RATE), pages=draw(RATE)),
        ]
        chosen = draw(st.integers(0, 6))
        if chosen:
            cards[model] = made if chosen == 1 else made[0]
        if chosen == 3:
            changes[model] = [(NOON + timedelta(hours=draw(st.integers(0, 1500))), made[1])]
            changes[model][0] = (changes[model][0][0], card(model, input=draw(RATE), output="1"))
    return Prices(cards, changes=changes, is_own=draw(st.booleans()))


def priced(event, prices):
    """Picos by the reference, of prices that were current then; `None` if it has none."""
    found = cost_of(event.data(), prices, time=event.time)
    return None if isinstance(found, Unpriced) else found.picos


def told(ledger, version=None):
    """The total and how many have no price."""
    report = ledger.query(usage_query("cost_total"), version=version)
    return report.total, report.unpriced


BEGINNING = st.tuples(
    st.tuples(st.just("record"), st.lists(events(), min_size=3, max_size=8)),
    st.tuples(st.just("price"), lists()),
    st.tuples(st.just("record"), st.lists(events(), max_size=3)),
    st.tuples(st.just("sum up"), st.sets(st.integers(0, 2))),
    st.tuples(st.just("reprice"), lists(), st.booleans(), st.sampled_from([None, None, "a"])),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("record"), st.lists(events(), max_size=8)),
        st.tuples(st.just("price"), lists()),
        st.tuples(st.just("reprice"), lists(), st.booleans(), st.sampled_from([None, "a"])),
        st.tuples(st.just("sum up"), st.sets(st.integers(0, 2))),
        st.tuples(st.just("prune"), st.integers(0, 1500)),
        st.tuples(st.just("again"), st.none()),
    ),
    max_size=6,
)


@settings(max_examples=50, deadline=None)
@given(beginning=BEGINNING, then=STEPS)
def test_whatever_happens_sums_are_what_events_cost(beginning, then):
    """By a reference for each event; each version stays as it was; a recount finds nothing wrong."""
    recorded, prices_of, pruned = [], {}, NOON - timedelta(days=1)
    kept, passed, before = {}, set(), (Decimal(0), 0)
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(Ledger(Path(folder) / "l.db")) as ledger,
        pytest.MonkeyPatch.context() as always,
    ):
        always.setattr(_cost_sums, "AT_ONCE", 3)
        # After the first two events, others like them are priced by SQLite.
        always.setattr(pricing, "CAREFULLY", 2)
        ledger.deliver(batch_of([make_event(type="other")]))
        for number, (step, what, *more) in enumerate((*beginning, *then)):
            if step == "record":
                recorded += what
                ledger.deliver(batch_of(what))
            elif step == "again":
                ledger.deliver(batch_of(recorded[:3]))
            elif step == "sum up":
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(_cost_sums, "LAG", 0)
                    ledger.query_all(QUESTIONS[each] for each in what)
            elif step == "prune":
                pruned = max(pruned, NOON + timedelta(hours=what))
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr("llm_metering.ledger.store.datetime", _Later)
                    ledger.prune(NOON + timedelta(hours=what))
                for event in recorded:
                    if event.time < NOON + timedelta(hours=what):
                        prices_of.setdefault(event.id, None)
            else:
                what.version = str(number)
                versions = ledger.price_versions()
                if step == "price":
                    ledger.price({"cost": what})
                    passed |= {event.id for event in recorded}
                    for event in recorded:
                        prices_of.setdefault(event.id, what)
                else:
                    ledger.reprice(
                        what,
                        unpriced_only=more[0],
                        subjects=None if more[1] is None else [more[1]],
                    )
                    for event in recorded:
                        old = prices_of.get(event.id)
                        has_none = old is None or priced(event, old) is None
                        if (
                            event.id in passed
                            and event.time >= pruned
                            and more[1] in (None, event.subject)
                            and (has_none or not more[0])
                        ):
                            prices_of[event.id] = what
                if len(ledger.price_versions()) > len(versions) and versions:
                    kept[versions[-1].number] = before
            found = [
                priced(event, prices_of[event.id]) if prices_of.get(event.id) else None
                for event in recorded
            ]
            amount = Decimal(sum(each for each in found if each is not None)) / 10**12
            assert told(ledger) == (amount, found.count(None))
            assert ledger.recount() == []
            before = amount, found.count(None) - (len(recorded) - len(passed))
        assert ledger.recount() == []
        for version, answer in kept.items():
            assert told(ledger, version) == answer
        for query in (
            usage_query("cost_total", group_by=["subject", "model"]),
            usage_query("cost_total", window="DAY", time_zone="Europe/Berlin"),
            usage_query("cost_total", window="DAY", group_by="subject"),
            *QUESTIONS,
        ):
            with ledger._reading() as connection:
                answers = list(reports(connection, query))
            assert all(each == answers[0] for each in answers)
        bill = ledger.billing(NOON, NOON + timedelta(hours=1501))
        assert Decimal(sum(each.picos or 0 for each in bill.charges)) / 10**12 == amount
        assert sum(each.events for each in bill.charges) == len(passed)
        assert bill.waiting == {"cost": len(recorded) - len(passed)}


class _Later:
    """A clock by which nothing is still to come."""

    @staticmethod
    def now(zone):
        return NOON.astimezone(zone) + timedelta(days=900)


def filled(path):
    """A ledger with some events of some models."""
    with closing(Ledger(path)) as ledger:
        many = [
            make_event(model=("gpt-5-mini", "m", "n")[number % 3], subject=f"c-{number % 4}")
            for number in range(30)
        ]
        ledger.deliver(batch_of(many))


def run(path, work, statements):
    command = [sys.executable, "-m", "tests.ledger.pricer_process", path, work, statements]
    return subprocess.Popen(list(map(str, command)))


@pytest.mark.parametrize("work", ["price", "reprice"])
def test_a_pass_that_is_killed_is_gone_on_with(tmp_path, work):
    """Before whichever statement: nothing is priced twice, nothing left out, no sum is wrong."""
    filled(tmp_path / "whole.db")
    with closing(Ledger(tmp_path / "whole.db")) as ledger:
        if work == "reprice":
            ledger.price({"cost": FIRST})
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(_cost_sums, "LAG", 0)
                ledger.query_all(QUESTIONS[1:])
    shutil.copy(tmp_path / "whole.db", tmp_path / "before.db")
    with closing(Ledger(tmp_path / "whole.db")) as ledger:
        if work == "price":
            ledger.price({"cost": FIRST})
        else:
            ledger.reprice(SECOND)
        expected = told(ledger)
    killed = 0
    for first in (3, 9, 20, 31, 42, 53, 64, 75, 97, 119):
        paths = [tmp_path / f"{first + more}.db" for more in (0, 3)]
        for path in paths:
            shutil.copy(tmp_path / "before.db", path)
        running = [run(path, work, int(path.stem)) for path in paths]
        for path, each in zip(paths, running, strict=True):
            killed += each.wait(timeout=60) == 9
            with closing(Ledger(path)) as ledger:
                assert ledger.recount() == []
                if work == "price":
                    ledger.price({"cost": FIRST})
                else:
                    assert ledger.query(usage_query("cost_total"), version=1).total == Decimal(
                        "0.012"
                    )
                    ledger.reprice(SECOND)
                assert (told(ledger), ledger.recount()) == (expected, [])
    assert killed > 12


def test_many_price_at_once(tmp_path, monkeypatch):
    """With as many lists, while events come and an older library writes too: each is priced once."""
    monkeypatch.setattr(pricing, "AT_ONCE", 7)
    monkeypatch.setattr(pricing, "CAREFULLY", 4)
    monkeypatch.setattr(repricing, "AT_ONCE", 7)
    monkeypatch.setattr(_cost_sums, "AT_ONCE", 9)
    monkeypatch.setattr(_cost_sums, "LAG", 3)
    path = tmp_path / "ledger.db"
    filled(path)
    many = [make_event(subject=f"c-{number % 4}") for number in range(100)]

    def patiently(work):
        while True:
            try:
                return work()
            except UnavailableError:
                # Where a disk is slow, so many at once may keep it locked for too long.
                continue

    def work(number):
        with closing(Ledger(path)) as ledger:
            for _ in range(5):
                patiently(lambda: ledger.price({"cost": FIRST if number else SECOND}))
                patiently(lambda: ledger.reprice(SECOND if number == 2 else FIRST))
                ledger.query_all(QUESTIONS)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for each in threads:
        each.start()
    old_library.write(path, 2, 0, 20)
    with closing(Ledger(path)) as ledger:
        for event in many:
            ledger.deliver(batch_of([event]))
        for each in threads:
            each.join()
        ledger.price({"cost": FIRST})
        assert ledger.recount() == []
        with closing(sqlite3.connect(path)) as connection:
            current = "SELECT place FROM costs WHERE superseded IS NULL"
            places = Counter(place for (place,) in connection.execute(current))
            (events,) = connection.execute("SELECT count(*) FROM events").fetchone()
        assert places == Counter(range(1, events + 1))
        last = told(ledger)
        assert told(ledger, ledger.price_versions()[-1].number) == last
