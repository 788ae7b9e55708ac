"""What an event's rows say of it: every event has one verdict, and no fault is taken for another."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_metering.reconcile.comparison import Comparison, SumMeter
from llm_metering.reconcile.expected import WireEvent, as_server_writes, is_same_data, number_of
from llm_metering.reconcile.findings import off_by_subject
from llm_metering.reconcile.pages import Listed

TOKENS = SumMeter(slug="", type="llm.usage", key="total_tokens")
CALLS = SumMeter(slug="calls", type="llm.usage", key="calls", start=1_000)


def make_event(number=1, **changes):
    values = {
        "record": f"event-{number}",
        "id": f"event-{number}",
        "source": "shop",
        "type": "llm.usage",
        "subject": "acme",
        "time": 2_000 + number,
        "data": {"total_tokens": 10 + number, "calls": 1},
        "body": b"",
    }
    return WireEvent(**{**values, **changes})


def make_row(event, **changes):
    """The event as it is listed when all is well."""
    values = {
        name: getattr(event, name) for name in ("id", "source", "type", "subject", "time", "data")
    }
    return Listed(**{**values, "data": dict(event.data), **changes})


def comparing(**changes):
    return Comparison("shop", TOKENS, meters=[CALLS], start=0, end=10_000, **changes)


def judge(event, *rows):
    return comparing().judge(event, rows)


def test_what_is_listed_as_it_was_sent():
    """There is nothing to be said of it."""
    event = make_event()

    assert judge(event, make_row(event)) is None


@pytest.mark.parametrize(
    ("source", "listed"),
    [
        pytest.param("HTTPS://shop.example/a", "https://shop.example/a", id="a scheme in capitals"),
        pytest.param("my shop", "my%20shop", id="a space"),
        pytest.param("größe", "gr%C3%B6%C3%9Fe", id="no ASCII"),
    ],
)
def test_a_source_as_the_server_writes_it(source, listed):
    """Go writes a URL in its own way, which is the same source all the same."""
    event = make_event(source=source)
    comparison = Comparison(source, TOKENS, start=0, end=10_000)

    assert as_server_writes(source) == as_server_writes(listed)
    assert comparison.judge(event, [make_row(event, source=listed)]) is None


def test_an_event_of_another_source():
    """It has our id and is none of ours: ours is missing."""
    event = make_event()

    assert judge(event, make_row(event, source="another")).kind == "missing"


@pytest.mark.parametrize(
    ("change", "differs", "off"),
    [
        pytest.param({"subject": "globex"}, ("subject",), {"acme": -11, "globex": 11}, id="payer"),
        pytest.param({"time": 2_050}, ("time",), {}, id="time within the span"),
        pytest.param({"time": 20_000}, ("time",), {"acme": -11}, id="time beyond the span"),
        pytest.param({"type": "prompt"}, ("type",), {"acme": -11}, id="type"),
        pytest.param(
            {"data": {"total_tokens": 12, "calls": 1, "model": "x"}},
            ("data.model", "data.total_tokens"),
            {"acme": 1},
            id="data",
        ),
        pytest.param(
            {"data": None}, ("data.calls", "data.total_tokens"), {"acme": -11}, id="no data"
        ),
    ],
)
def test_another_event_under_our_id(change, differs, off):
    """It is told by name what is different, and what that makes the bill wrong by."""
    event = make_event()

    finding = judge(event, make_row(event, **change))

    assert (finding.kind, finding.differs) == ("different", differs)
    assert off_by_subject([finding]) == {key: Decimal(value) for key, value in off.items()}


@pytest.mark.parametrize(
    ("data", "problem", "told"),
    [
        pytest.param(
            {"total_tokens": "secret words"},
            "invalid event: value cannot be parsed as float64: secret words",
            "value cannot be parsed as float64",
            id="a text that is no number",
        ),
        pytest.param(
            {"total_tokens": True},
            "invalid event: unsupported value property type: bool",
            "unsupported value property type",
            id="true",
        ),
        pytest.param(
            {"total_tokens": None},
            "invalid event: value cannot be null",
            "value cannot be null",
            id="null",
        ),
        pytest.param(
            {"total_tokens": 5},
            "some text of a later version",
            "some text of a later version",
            id="a text not known",
        ),
    ],
)
def test_a_value_that_is_none(data, problem, told):
    """It is told what the server finds wrong, without the value, which the server quotes."""
    event = make_event(data=data)

    finding = judge(event, make_row(event, problems=(problem,)))

    assert (finding.kind, finding.reason, finding.is_fault) == ("invalid", told, True)


def test_tokens_that_nobody_knows():
    """The server finds no tokens where none were recorded: named, and no fault of the bill."""
    event = make_event(data={"calls": 1})
    problem = 'invalid event: missing value property: "$.total_tokens"'

    finding = judge(event, make_row(event, problems=(problem,)))

    assert (finding.kind, finding.is_fault) == ("invalid", False)
    assert finding.reason == 'missing value property: "$.total_tokens"'
    assert finding.event.tokens is None
    assert finding.tokens_off == 0


def test_a_value_that_went_lost_on_the_way():
    """A meter misses what was sent: no excuse."""
    event = make_event()
    problem = 'invalid event: missing value property: "$.total_tokens"'

    finding = judge(event, make_row(event, data={"calls": 1}, problems=(problem,)))

    assert (finding.kind, finding.is_fault, finding.tokens_off) == ("invalid", True, -11)


@pytest.mark.parametrize(
    ("problem", "counter"),
    [
        pytest.param("no customer found for event subject: acme", "no_customer", id="customer"),
        pytest.param("no meter found for event type: llm.usage", "no_meter", id="meter"),
        pytest.param(
            'invalid event: missing value property: "$.reasoning_output_tokens"',
            "no_value",
            id="a property of other calls",
        ),
    ],
)
def test_what_is_no_fault_of_the_event(problem, counter):
    """OpenMeter calls most events of most installations invalid; these are counted, not named."""
    event = make_event()
    comparison = comparing()

    assert comparison.judge(event, [make_row(event, problems=(problem,))]) is None
    assert getattr(comparison, counter) == 1


def test_doubled_with_another_content():
    """Twice is twice, whatever is in the second one; both count for the sums."""
    event = make_event()

    finding = judge(event, make_row(event), make_row(event, data={"total_tokens": 100}))

    assert (finding.kind, finding.listed, finding.tokens_off) == ("doubled", 2, 100)
    assert finding.differs == ("data.calls", "data.total_tokens")


def test_a_meter_that_begins_later():
    """What was before its beginning is not in its sums, and cannot be missing there."""
    before, after = make_event(time=999), make_event(time=1_000)

    assert judge(before).off == {"": {"acme": -11}}
    assert judge(after).off == {"": {"acme": -11}, "calls": {"acme": -1}}


@pytest.mark.parametrize(
    ("sent", "listed", "same"),
    [
        pytest.param(2**53 + 1, float(2**53), True, id="beyond what a float64 tells apart"),
        pytest.param(2**53 - 1, 2**53 - 2, False, id="within it"),
        pytest.param(1, 1.0, True, id="1 and 1.0"),
        pytest.param(1, True, False, id="1 and true"),
        pytest.param(0.1, 0.1, True, id="a fraction"),
        pytest.param([1, {"a": 2}], [1.0, {"a": 2.0}], True, id="nested"),
        pytest.param([1], [1, 1], False, id="a longer list"),
        pytest.param("a", None, False, id="null"),
        pytest.param(10**400, 1e308, False, id="beyond a float64"),
    ],
)
def test_what_is_the_same_after_go_wrote_it(sent, listed, same):
    """Numbers are compared as a float64 keeps them, and nothing else is forgiven."""
    assert is_same_data({"x": sent}, {"x": listed}) is same


@pytest.mark.parametrize(
    ("value", "number"),
    [
        pytest.param(7, 7, id="a number"),
        pytest.param("12.50", "12.50", id="a text that is one"),
        pytest.param("1e3", 1000, id="with an exponent"),
        pytest.param(float("nan"), None, id="NaN"),
        pytest.param("NaN", None, id="NaN as a text"),
        pytest.param(True, None, id="true"),
        pytest.param("", None, id="nothing"),
        pytest.param({}, None, id="an object"),
    ],
)
def test_what_a_meter_adds(value, number):
    """What is no number adds nothing, as in the server's sums."""
    assert number_of(value) == (None if number is None else Decimal(number))


FATES = ("well", "missing", "doubled", "invalid", "different", "of others")


@given(st.lists(st.sampled_from(FATES), max_size=40), st.randoms(use_true_random=False))
def test_what_is_planted_is_what_is_found(fates, random):
    """Any mixture: each event has the verdict of what was done to it, and the sums add up."""
    events = [
        make_event(number, subject=f"customer-{number % 3}") for number, _ in enumerate(fates)
    ]
    rows = []
    for event, fate in zip(events, fates, strict=True):
        if fate == "of others":
            rows.append(make_row(event, source="other"))
        elif fate == "invalid":
            problem = "invalid event: value cannot be parsed as float64: x"
            data = {**event.data, "total_tokens": "x"}
            rows.append(make_row(event, data=data, problems=(problem,)))
        elif fate == "different":
            rows.append(make_row(event, data={"total_tokens": 1}))
        elif fate != "missing":
            rows += [make_row(event)] * (random.randint(2, 4) if fate == "doubled" else 1)
    random.shuffle(rows)
    comparison = comparing()

    found = {
        event.id: comparison.judge(event, [row for row in rows if row.id == event.id])
        for event in events
    }

    said = {
        event.id: finding and finding.kind
        for event, finding in zip(events, found.values(), strict=True)
    }
    planted = {"well": None, "of others": "missing"}
    assert said == {
        event.id: planted.get(fate, fate) for event, fate in zip(events, fates, strict=True)
    }
    counted = sum(TOKENS.value(row) or 0 for row in rows if row.source == "shop")
    recorded = sum(TOKENS.value(event) for event in events)
    off = off_by_subject(filter(None, found.values()))
    assert counted - recorded == sum(off.values())
