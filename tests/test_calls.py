"""The call table: whatever is told, by whomever, in whatever order, a call is billed once."""

from __future__ import annotations

import json
import random
import sys
import threading
from datetime import datetime, timedelta
from functools import partial

import pytest

from llm_metering import Meter
from llm_metering.calls import CallTable, Report
from llm_metering.calls.values import CLOCK_TOLERANCE
from llm_metering.errors import SubjectError
from llm_metering.exchange import Output
from llm_metering.subjects import Rank
from llm_metering.token_usage import TokenUsage
from tests.call_table import NOW, USAGE, Notebook, Words, asked, by, call
from tests.forking import in_child


@pytest.fixture(autouse=True)
def nobody_elses_calls(monkeypatch):
    """Calls that another test left in flight are none of this one's."""
    monkeypatch.setattr("llm_metering.calls.table.in_flight", {})


@pytest.fixture
def notes():
    return Notebook()


@pytest.fixture
def tokenizer():
    return Words()


@pytest.fixture
def table(notes, tokenizer):
    return CallTable(notes, tokenizer, source="tests", now=lambda: NOW)


def test_no_repr_shows_what_was_said():
    """Values end up in logs and tracebacks; prompts and answers must not."""
    secret = ["the secret prompt"]

    begun = call(request=secret, asked=lambda: {"prompt": "the secret prompt"})
    report = Report(usage=USAGE, output=partial(Output, texts=["the secret answer"]))

    assert "secret" not in repr(begun) + repr(report)
    assert "acme" in repr(begun)
    assert "input_tokens=" in repr(report)


def test_a_call_becomes_one_event(table, notes):
    """From the start comes who pays, from the end what was used; the id is that of the start."""
    table.start("run", call(by("acme", feature="search"), run_id="run"))
    (event_id,) = notes.opened
    table.end("run", "completed", Report(usage=USAGE, model="gpt-5-mini-1", response_id="r1"))

    (event,) = notes.events
    duration = event["data"].pop("duration_ms")
    assert event == {
        "specversion": "1.0",
        "id": event_id,
        "source": "tests",
        "type": "llm.usage",
        "subject": "acme",
        "time": "2026-11-21T12:00:00.000Z",
        "data": {
            "model": "gpt-5-mini-1",
            "request_model": "gpt-5-mini",
            "provider": "openai",
            "operation": "chat",
            "total_tokens": 120,
            "input_tokens": 100,
            "output_tokens": 20,
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "calls": 1,
            "provenance": "reported",
            "status": "completed",
            "framework": "langchain",
            "run_id": "run",
            "response_id": "r1",
            "feature": "search",
        },
    }
    assert duration >= 0
    assert len(table) == 0


def test_the_tier_is_in_the_event(table, notes):
    """The one that the provider named, beside flags and without, counted or reported."""
    table.start("run", call(by("acme")))
    table.end("run", "completed", Report(usage=USAGE, service_tier="flex"))
    table.start("odd", call(by("acme")))
    table.end("odd", "completed", Report(usage=USAGE, service_tier="flex", flags=("odd",)))

    assert [event["data"]["service_tier"] for event in notes.events] == ["flex", "flex"]


def test_the_tier_that_the_caller_names(table, notes):
    """It is in the note of the open call, and in the event where the provider names the plain one;
    a contradiction is flagged."""
    for key, served in (("none", None), ("plain", "default"), ("other", "priority")):
        table.start(key, call(by("acme"), service_tier="batch", run_id=key))
        table.end(key, "completed", Report(usage=USAGE, service_tier=served))

    assert [note["data"]["service_tier"] for note in notes.opened.values()] == ["batch"] * 3
    said = [(e["data"]["service_tier"], e["data"].get("flags")) for e in notes.events]
    assert said == [("batch", None), ("batch", None), ("priority", ["service_tier_differs"])]


def test_an_answer_out_of_a_cache_was_served_on_no_tier(table, notes):
    """No provider was asked: the tier that the answer had is an earlier call's."""
    table.start("run", call(by("acme")))
    table.end("run", "completed", Report(cached=True, service_tier="priority"))

    assert "service_tier" not in notes.data


def test_the_note_of_an_open_call_is_the_event_of_its_interruption(table, notes):
    """Were the process to die now, recovery would record exactly this, under the same id."""
    table.start("run", call(by("acme", feature="search"), run_id="run"))

    ((event_id, note),) = notes.opened.items()
    assert note == {
        "specversion": "1.0",
        "id": event_id,
        "source": "tests",
        "type": "llm.usage",
        "subject": "acme",
        "time": "2026-11-21T12:00:00.000Z",
        "data": {
            "model": "gpt-5-mini",
            "request_model": "gpt-5-mini",
            "provider": "openai",
            "operation": "chat",
            "calls": 1,
            "provenance": "missing",
            "status": "interrupted",
            "framework": "langchain",
            "run_id": "run",
            "feature": "search",
        },
    }
    assert notes.events == []


@pytest.mark.parametrize(
    ("outcome", "usage", "pieces", "expected"),
    [
        pytest.param("completed", USAGE, 0, ("completed", "reported", 120), id="completed"),
        pytest.param("completed", None, 0, ("completed", "missing", None), id="nothing reported"),
        pytest.param("completed", None, 3, ("completed", "estimated", None), id="stream, no usage"),
        pytest.param(
            "completed", TokenUsage(output_tokens=5), 0, ("completed", "partial", None), id="half"
        ),
        pytest.param(
            "completed", TokenUsage(), 0, ("completed", "missing", None), id="an empty report"
        ),
        pytest.param("failed", None, 0, ("failed", "missing", None), id="failed"),
        pytest.param("failed", USAGE, 0, ("failed", "reported", 120), id="failed, but reported"),
        pytest.param("failed", None, 3, ("failed", "estimated", None), id="failed in mid-stream"),
        pytest.param("aborted", None, 0, ("aborted", "missing", None), id="aborted"),
        pytest.param(
            "aborted", None, 3, ("aborted", "estimated", None), id="aborted in mid-stream"
        ),
        pytest.param("aborted", USAGE, 3, ("aborted", "reported", 120), id="aborted at the end"),
        pytest.param("refused", USAGE, 0, ("failed", "reported", 120), id="refused, but reported"),
        pytest.param("refused", None, 3, ("failed", "estimated", None), id="refused in mid-stream"),
    ],
)
def test_status_and_provenance(table, notes, outcome, usage, pieces, expected):
    """How the call ended and where its counts come from are two things, and never a guess."""
    table.start("run", call())
    for _ in range(pieces):
        table.piece("run", "word ")
    table.end("run", outcome, Report(usage=usage))

    data = notes.data
    assert (data["status"], data["provenance"], data.get("total_tokens")) == expected


def test_a_refusal_makes_no_event(table, notes):
    """The provider took no token: it is counted by its reason, and its note is closed."""
    table.start("run", call())
    table.end("run", "refused", Report(reason="429"))

    assert notes.events == []
    assert notes.closed == list(notes.opened)
    assert notes.counts == {("refused_calls", "429"): 1}


def test_a_cached_answer_costs_nothing(table, notes):
    """No provider was asked: the zero is reported, whatever the first call used."""
    table.start("run", call())
    table.piece("run", "word ")
    table.end("run", "completed", Report(usage=USAGE, cached=True))

    data = notes.data
    assert (data["status"], data["provenance"]) == ("cached", "reported")
    assert (data["input_tokens"], data["output_tokens"], data["total_tokens"]) == (0, 0, 0)


def test_what_arrived_is_counted_when_nobody_reports(table, notes):
    """The pieces are joined before they are counted; input that nobody saw stays unknown."""
    table.start("run", call())
    for piece in (None, "one t", "wo th", None, "ree"):
        table.piece("run", piece)
    table.end("run", "aborted", Report())

    assert {key: notes.data[key] for key in notes.data if "token" in key or "count" in key} == {
        "output_tokens": 3,
        "completion_tokens": 3,
        "count_method": "words",
        "time_to_first_token_ms": notes.data["time_to_first_token_ms"],
    }


def test_both_sides_are_counted_where_both_were_seen(table, notes):
    """Then there is a total; it is an estimate, and says how it came about."""
    table.start("run", call(asked=asked()))
    table.piece("run", "a word or two")
    table.end("run", "completed", Report())

    assert notes.data["provenance"] == "estimated"
    assert notes.data["count_method"] == "words"
    assert (notes.data["input_tokens"], notes.data["output_tokens"]) == (3, 4)
    assert notes.data["total_tokens"] == 7


def test_the_answer_of_the_report_is_preferred_to_the_pieces(table, notes):
    """A framework may drop pieces on the way; what it hands over at the end is whole."""
    table.start("run", call(asked=asked()))
    table.piece("run", "one")
    table.end("run", "completed", Report(output=lambda: Output(texts=["one two three"])))

    assert notes.data["output_tokens"] == 3


@pytest.mark.parametrize(
    ("usage", "is_final", "expected"),
    [
        pytest.param(
            TokenUsage(input_tokens=100, cache_read_input_tokens=60),
            False,
            (100, 4, "partial", "words"),
            id="input is reported, output is counted",
        ),
        pytest.param(
            TokenUsage(input_tokens=100, output_tokens=1, reported_total_tokens=101),
            False,
            (100, 4, "partial", "words"),
            id="the count so far is a minimum",
        ),
        pytest.param(
            TokenUsage(input_tokens=100, output_tokens=50, reported_total_tokens=150),
            False,
            (100, 50, "partial", None),
            id="more was reported than arrived",
        ),
        pytest.param(
            TokenUsage(output_tokens=9),
            True,
            (3, 9, "partial", "words"),
            id="output is reported, input is counted",
        ),
        pytest.param(
            TokenUsage(input_tokens=100, output_tokens=50),
            True,
            (100, 50, "reported", None),
            id="all",
        ),
    ],
)
def test_what_was_reported_is_kept_and_the_rest_counted(table, notes, usage, is_final, expected):
    """The provider's numbers stand; ours fill what it left out, and the event is partial."""
    table.start("run", call(asked=asked()))
    table.piece("run", "a word or two")
    table.end("run", "aborted", Report(usage=usage, is_final=is_final))

    data = notes.data
    assert (
        data["input_tokens"],
        data["output_tokens"],
        data["provenance"],
        data.get("count_method"),
    ) == expected
    assert data.get("cache_read_input_tokens") == usage.cache_read_input_tokens
    assert "reported_total_tokens" not in data


def test_a_call_without_a_sign_of_life_is_not_estimated(table, notes):
    """It may never have reached the provider: an estimate of its input would be invented."""
    table.start("run", call(asked=asked()))
    table.end("run", "failed", Report())

    assert notes.data["provenance"] == "missing"


def test_while_it_is_counted_its_note_holds_the_estimate(notes):
    """A process that dies meanwhile leaves the estimate to whoever recovers its journal."""
    tokenizer = Words(at_once=False)
    table = CallTable(notes, tokenizer, source="tests", now=lambda: NOW)
    table.start("run", call(asked=asked()))
    table.piece("run", "a word or two")
    table.end("run", "completed", Report())

    assert notes.events == []
    assert len(table) == 0
    ((event_id, note),) = notes.opened.items()
    assert note["data"]["count_method"] == "guess"
    assert (note["data"]["status"], note["data"]["total_tokens"]) == ("completed", 7)
    assert "word" not in json.dumps({**note["data"], "count_method": ""})

    tokenizer.work()
    (event,) = notes.events
    assert event == {**note, "data": {**note["data"], "count_method": "words"}}
    assert event["id"] == event_id


def test_a_request_that_cannot_be_read_costs_no_event(table, notes):
    """What the application handed over may be anything; the call is billed as far as it is known."""

    def broken():
        raise RuntimeError("a secret prompt")

    table.start("run", call(asked=broken))
    table.end("run", "completed", Report())

    assert notes.data["provenance"] == "missing"
    assert notes.counts == {("failures", "counting"): 1}


@pytest.mark.parametrize(
    ("starts", "tellers"),
    [
        pytest.param(["a"], "a", id="one handler"),
        pytest.param(["a", "b"], "ab", id="two handlers"),
        pytest.param(["a", "a"], "aa", id="one handler twice"),
        pytest.param(["a", "b", "a"], "aba", id="one twice and another"),
        pytest.param(["a"], "ca", id="one that told nothing of the start"),
    ],
)
def test_pieces_are_counted_once_whoever_tells_of_them(table, notes, starts, tellers):
    """Each handler is told of each piece, and they do not add up."""
    for teller in starts:
        table.start("run", call(teller=teller))
    for _ in range(3):
        for teller in tellers:
            table.piece("run", "word ", teller=teller)
    # The application left before all of them were told of the fourth.
    table.piece("run", "word ", teller="a")
    table.end("run", "aborted", Report(), teller="a")

    assert notes.data["output_tokens"] == 4


def test_a_total_that_does_not_add_up_is_kept_and_flagged(table, notes):
    """The provider's own total stays beside ours."""
    usage = TokenUsage(input_tokens=100, output_tokens=20, reported_total_tokens=121)
    table.start("run", call(by("acme", flags=("unattributed",))))
    table.end("run", "completed", Report(usage=usage, flags=("odd",)))

    assert (notes.data["total_tokens"], notes.data["reported_total_tokens"]) == (120, 121)
    assert notes.data["flags"] == ["unattributed", "odd", "usage_inconsistent"]


@pytest.mark.parametrize(
    ("first", "second", "subject", "flags", "dimensions"),
    [
        pytest.param(by("acme"), by("acme"), "acme", None, {}, id="the same handler twice"),
        pytest.param(
            by("house", Rank.DEFAULT),
            by("acme"),
            "acme",
            None,
            {},
            id="global, then the call's own",
        ),
        pytest.param(
            by("acme"),
            by("house", Rank.DEFAULT),
            "acme",
            None,
            {},
            id="the call's own, then global",
        ),
        pytest.param(
            by("unattributed", Rank.NOBODY, ("unattributed",)),
            by("acme"),
            "acme",
            None,
            {},
            id="nobody, then somebody",
        ),
        pytest.param(
            by("a"), by("b"), "a", ["subject_conflict"], {}, id="two contradict each other"
        ),
        pytest.param(
            by("a", one="a"),
            by("b", two="b"),
            "a",
            ["subject_conflict"],
            {"one": "a"},
            id="the loser's dimensions are the loser's",
        ),
        pytest.param(
            by("house", Rank.DEFAULT, one="global", two="global"),
            by("acme", two="local", three="local"),
            "acme",
            None,
            {"one": "global", "two": "local", "three": "local"},
            id="dimensions add up, the payer's win",
        ),
        pytest.param(
            by("acme", Rank.SCOPE, one="1"),
            by("acme", Rank.SCOPE, two="2"),
            "acme",
            None,
            {"one": "1", "two": "2"},
            id="dimensions of equals add up",
        ),
        pytest.param(
            by("acme", one="local"),
            by("house", Rank.DEFAULT, one="global", two="global"),
            "acme",
            None,
            {"one": "local", "two": "global"},
            id="a later global handler adds what is new",
        ),
    ],
)
def test_a_start_that_is_told_twice(table, notes, first, second, subject, flags, dimensions):
    """It is one call; the higher rank pays, and two equal ones that contradict are flagged."""
    table.start("run", call(first))
    table.start("run", call(second))
    (note,) = notes.opened.values()
    table.end("run", "completed", Report(usage=USAGE))
    table.end("run", "completed", Report(usage=USAGE))

    (event,) = notes.events
    assert (event["subject"], event["data"].get("flags")) == (subject, flags)
    assert {key: event["data"][key] for key in ("one", "two", "three") if key in event["data"]} == (
        dimensions
    )
    assert (note["subject"], note["id"]) == (subject, event["id"]), "recovery bills somebody else"
    assert notes.counts == {}


@pytest.mark.parametrize(
    ("starts", "ends", "ignored"),
    [
        pytest.param("a", "a", 0, id="once"),
        pytest.param("aa", "aa", 0, id="one handler twice"),
        pytest.param("ab", "ab", 0, id="two handlers"),
        pytest.param("ab", "ba", 0, id="the other way round"),
        pytest.param("a", "aa", 1, id="one end too many"),
        pytest.param("ab", "aab", 1, id="one handler is told twice"),
        pytest.param("a", "ac", 0, id="and one that told nothing of the start"),
        pytest.param("a", "ca", 0, id="first one that told nothing of the start"),
    ],
)
def test_ends_beyond_those_of_the_starts_are_counted(table, notes, starts, ends, ignored):
    """Whoever told of the start is told of the end; what comes beyond that is worth a look."""
    for teller in starts:
        table.start("run", call(teller=teller))
    for teller in ends:
        table.end("run", "completed", Report(usage=USAGE), teller=teller)

    assert len(notes.events) == 1
    assert notes.counts["ignored_signals", "completed"] == ignored


def test_a_late_report_changes_nothing(table, notes):
    """The first end wins, also over a later one that knows more."""
    table.start("run", call())
    table.end("run", "failed", Report())
    table.end("run", "completed", Report(usage=USAGE))

    assert (notes.data["status"], notes.data["provenance"]) == ("failed", "missing")
    assert notes.counts == {("ignored_signals", "completed"): 1}
    ((event_id,), (late,)) = notes.opened, notes.late
    assert late == {
        "id": event_id,
        "subject": "acme",
        "model": "gpt-5-mini",
        "time": "2026-11-21T12:00:00.000Z",
        "input_tokens": 100,
        "output_tokens": 20,
    }


def test_the_end_of_an_unknown_call_is_counted(table, notes):
    """It makes no event here: the front end decides whether it was a call."""
    assert not table.knows("run")
    table.piece("run", "word ")
    table.end("run", "completed", Report(usage=USAGE))

    assert notes.events == []
    assert notes.counts == {("ignored_signals", "completed"): 1}


def test_a_call_is_known_from_its_start_on(table):
    """In flight, and after it was settled or refused; another start begins anew."""
    table.start("run", call())
    known = [table.knows("run")]
    table.end("run", "refused", Report())
    known.append(table.knows("run"))

    assert known == [True, True]
    assert not table.knows("another")


def test_a_run_id_may_serve_again_for_the_next_call(table, notes):
    """Two calls one after the other under a fixed run id are two events."""
    for _ in range(2):
        table.start("run", call())
        table.end("run", "completed", Report(usage=USAGE))

    assert len({event["id"] for event in notes.events}) == 2


@pytest.mark.parametrize("tellers", ["a", "ab", "aa"])
def test_a_run_id_in_use_twice_loses_no_call(table, notes, tellers):
    """Two calls under one fixed run id at the same time: two events, both whole, both flagged."""
    for request in (["one"], ["one"]):
        for teller in tellers:
            table.start("run", call(request=request, teller=teller))
    assert len(table) == 2
    for usage in (USAGE, TokenUsage(input_tokens=7, output_tokens=1)):
        for teller in tellers:
            table.end("run", "completed", Report(usage=usage), teller=teller)

    assert [event["data"]["total_tokens"] for event in notes.events] == [120, 8]
    assert all(event["data"]["flags"] == ["run_id_reused"] for event in notes.events)
    assert {event["id"] for event in notes.events} == set(notes.opened)
    assert (notes.counts, notes.late, len(table)) == ({}, [], 0)


def test_a_third_call_under_a_run_id_in_use(table, notes):
    """The first has ended, the second goes on: the third is beside it, and the next one alone."""
    one, two, three, four = (["x"] for _ in range(4))
    table.start("run", call(request=one))
    table.start("run", call(request=two))
    table.end("run", "completed", Report(usage=USAGE))
    table.start("run", call(request=three))
    table.start("run", call(request=three))
    for _ in range(2):
        table.end("run", "completed", Report(usage=USAGE))
    table.start("run", call(request=four))
    table.end("run", "completed", Report(usage=USAGE))

    assert [event["data"].get("flags") for event in notes.events] == [["run_id_reused"]] * 3 + [
        None
    ]
    assert len(table) == 0


def test_threads_that_share_a_run_id_each_end_their_own_call(table, notes):
    """What a thread says of a run id in use twice is said of the call that it began itself."""

    def begin_and_end(name, tokens, order):
        order[0].wait(20)
        table.start("run", call(by(name), request=[name]))
        table.piece("run", f"{name} " * tokens)
        order[1].set()
        order[2].wait(20)
        table.end("run", "completed", Report(usage=TokenUsage(input_tokens=tokens)))
        order[3].set()

    started, both, second_ended = threading.Event(), threading.Event(), threading.Event()
    go, done = threading.Event(), threading.Event()
    go.set()
    first = threading.Thread(
        target=begin_and_end, args=("first", 1, (go, started, second_ended, done))
    )
    second = threading.Thread(
        target=begin_and_end, args=("second", 2, (started, both, both, second_ended))
    )
    for thread in (first, second):
        thread.start()
    for thread in (first, second):
        thread.join(20)

    billed = {
        event["subject"]: (event["data"]["input_tokens"], event["data"]["output_tokens"])
        for event in notes.events
    }
    assert billed == {"first": (1, 1), "second": (2, 2)}


def test_threads_that_begin_under_one_run_id_at_the_very_same_time(notes, tokenizer):
    """Each start finds the run id free: none takes another one's place, and both are billed."""
    begun, both_begun = threading.Event(), threading.Event()

    def end(tokens):
        table.end("run", "completed", Report(usage=TokenUsage(input_tokens=tokens)))

    def begin_meanwhile():
        table.start("run", call(request=["other"]))
        begun.set()
        both_begun.wait(20)
        end(2)

    def clock():
        # It is asked in the middle of a start.
        if not others:
            others.append(threading.Thread(target=begin_meanwhile))
            others[0].start()
            begun.wait(20)
        return 0.0

    others = []
    table = CallTable(notes, tokenizer, source="tests", now=lambda: NOW, clock=clock)
    table.start("run", call())
    both_begun.set()
    end(1)
    others[0].join(20)

    assert sorted(event["data"]["input_tokens"] for event in notes.events) == [1, 2]
    assert not len(table)


def test_what_is_open_at_the_end_is_settled_with_what_is_known(table, notes):
    """A call nobody saw end may have been paid for; what it says afterwards is counted."""
    table.start("silent", call())
    table.start("streaming", call())
    table.piece("streaming", "word ")
    table.close()
    table.close()
    table.end("silent", "completed", Report(usage=USAGE))

    found = [
        (event["data"]["status"], event["data"]["provenance"], event["data"]["flags"])
        for event in notes.events
    ]
    assert found == [
        ("aborted", "missing", ["open_at_exit"]),
        ("aborted", "estimated", ["open_at_exit"]),
    ]
    assert notes.counts == {("ignored_signals", "completed"): 1}


@pytest.mark.parametrize(
    ("created", "expected"),
    [
        pytest.param(None, NOW, id="none"),
        pytest.param(NOW - timedelta(seconds=3), NOW - timedelta(seconds=3), id="plausible"),
        pytest.param(NOW - CLOCK_TOLERANCE, NOW - CLOCK_TOLERANCE, id="just plausible"),
        pytest.param(NOW - CLOCK_TOLERANCE - timedelta(seconds=1), NOW, id="too early"),
        pytest.param(NOW + timedelta(days=40), NOW, id="next month"),
    ],
)
def test_the_time_of_an_event(table, notes, created, expected):
    """The provider's own time, unless its clock is too far off to decide about a month."""
    table.start("run", call())
    table.end("run", "completed", Report(usage=USAGE, created=created))

    (event,) = notes.events
    assert datetime.fromisoformat(event["time"]) == expected


def test_a_call_that_ends_inside_the_settling_of_another(table, notes):
    """Garbage collection may report an end inside any allocation: both are settled, once."""
    table.start("outer", call())
    table.start("inner", call())

    def collect():
        notes.on_record = lambda: None
        table.end("inner", "aborted", Report())
        table.end("outer", "aborted", Report())

    notes.on_record = collect
    table.end("outer", "completed", Report(usage=USAGE))

    assert [event["data"]["status"] for event in notes.events] == ["completed", "aborted"]
    assert notes.counts == {("ignored_signals", "aborted"): 1}


def test_an_attribution_that_cannot_be_written_raises_to_the_guard(table, notes):
    """The table hides no bug: whoever calls it counts the failure."""
    with pytest.raises(SubjectError):
        table.start("run", call(by("")))

    assert notes.events == []


@pytest.fixture
def hasty_threads():
    """Threads that take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_threads_that_end_the_same_call_settle_it_once(table, notes, hasty_threads):
    """However many race for it, one of them makes the event, and no moment says it is unknown."""
    keys = [f"run-{number}" for number in range(300)]
    for key in keys:
        table.start(key, call())
    barrier = threading.Barrier(4, timeout=20)
    unknown = []

    def end_all(seed):
        barrier.wait()
        order = random.Random(seed // 2).sample(keys, len(keys))
        for key in order:
            if not table.knows(key):
                unknown.append(key)
            table.end(key, "completed", Report(usage=USAGE))

    threads = [threading.Thread(target=end_all, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(event["data"]["calls"] for event in notes.events) == [1] * 300
    assert {event["id"] for event in notes.events} == set(notes.opened)
    assert unknown == []


def test_a_forked_child_leaves_its_parents_calls_alone(home):
    """Who started a call settles it: the child's copy of the end is not a second event."""
    with Meter(home=home, sinks=["memory:"]) as meter:
        meter.calls.start("run", call())

        def end_in_child():
            assert len(meter.calls) == 0
            assert meter.calls.knows("run"), "its end would look like that of a new call"
            meter.calls.end("run", "completed", Report(usage=USAGE))
            meter.calls.start("own", call())
            meter.calls.end("own", "completed", Report(usage=USAGE))
            return "recorded=1 " in repr(meter)

        assert in_child(end_in_child)
        meter.calls.end("run", "completed", Report(usage=USAGE))
        assert meter.flush()

        usage = meter.usage("calls_total")
        status = meter.statistics()
    assert [row.value for row in usage] == [2]
    assert (status["recorded"], status["open_calls"], status["ignored_signals"]) == (2, 0, {})
