"""Run metadata: which of it names who pays, which of it becomes dimensions, and what is flagged."""

from __future__ import annotations

import logging
import uuid
from enum import IntEnum, StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_metering.errors import MissingSubjectError, SubjectError
from llm_metering.events import DATA_KEYS, UNATTRIBUTED, check_dimensions, is_unicode
from llm_metering.subjects import (
    MAX_DIMENSION_LENGTH,
    Attribution,
    MissingSubjects,
    Rank,
    SubjectRules,
    SubjectVerifier,
    attribute,
    check_subject,
    plain_dimensions,
    sign_subject,
    subject,
)

KEY = "k" * 32
SIGNED = SubjectRules(from_metadata="signed", verifier=SubjectVerifier([KEY]))


def token(name="acme", key=KEY, **options):
    return sign_subject(name, key, **options)


class Text(str):
    """A string of an application's own class, as enums and markup have them."""

    __slots__ = ()

    def __str__(self):
        raise AssertionError("nobody's own code is run")


class Plan(StrEnum):
    GOLD = "gold"


class Level(IntEnum):
    TOP = 7


def test_other_keys_replace_the_usual_ones():
    """So that an application whose `subject` is that of a letter can say where its payer stands."""
    rules = SubjectRules(keys=("payer", "langfuse_user_id"))
    metadata = {"subject": "Re: your letter", "langfuse_user_id": "acme"}

    assert attribute(metadata=metadata, rules=rules).subject == "acme"
    assert attribute(metadata={**metadata, "payer": "first"}, rules=rules).subject == "first"
    assert attribute(metadata={"subject": "x"}, rules=rules).flags == ("unattributed",)


def test_metadata_can_be_ignored():
    """Then nothing that a request says decides, and nothing is flagged."""
    rules = SubjectRules(from_metadata="ignore", verifier=SubjectVerifier([KEY]))
    for value in ("acme", token(), 5):
        with subject("house"):
            found = attribute(metadata={"subject": value}, rules=rules)
        assert (found.subject, found.rank, found.flags) == ("house", Rank.SCOPE, ())


def test_a_signed_subject_pays():
    """Its token stands where a name would."""
    found = attribute(metadata={"subject": token()}, rules=SIGNED)

    assert (found.subject, found.rank, found.flags) == ("acme", Rank.METADATA, ())


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("acme", id="a name without a signature"),
        pytest.param(token()[:-1], id="cut"),
        pytest.param(token(key="o" * 32), id="another key"),
        pytest.param(token(audience="elsewhere"), id="another audience"),
        pytest.param("lms1.", id="no token"),
        pytest.param(5, id="a number"),
        pytest.param(b"lms1.", id="bytes"),
    ],
)
def test_a_forged_subject_is_passed_over_and_flagged(value):
    """The call is billed as if it had brought none, and the value is in nothing of ours."""
    with subject("house"):
        found = attribute(metadata={"subject": value}, rules=SIGNED)
    alone = attribute(metadata={"subject": value}, rules=SIGNED)

    assert (found.subject, found.flags) == ("house", ("invalid_subject_token",))
    assert (alone.subject, alone.flags) == (UNATTRIBUTED, ("invalid_subject_token", "unattributed"))


def test_an_expired_subject_is_passed_over():
    """By the clock of who verifies, when the call starts."""
    late = SubjectRules(from_metadata="signed", verifier=SubjectVerifier([KEY], now=lambda: 9e9))

    assert attribute(metadata={"subject": token()}, rules=late).flags[0] == "invalid_subject_token"


def test_no_token_at_all_is_no_forgery():
    """A call without a subject in its metadata is billed to its scope, unflagged."""
    with subject("house"):
        assert attribute(metadata={"other": 1}, rules=SIGNED).flags == ()
        assert attribute(metadata={"subject": None}, rules=SIGNED).flags == ()


@pytest.mark.parametrize("verifier", [None, SubjectVerifier([KEY])], ids=["no key", "a key"])
def test_a_token_is_never_a_name(verifier):
    """Under `trust` too: it would put a bearer's proof on a bill, and in every sink."""
    rules = SubjectRules(verifier=verifier)
    found = attribute(metadata={"subject": token()}, rules=rules)

    assert found.subject == ("acme" if verifier else UNATTRIBUTED)
    assert "lms1" not in repr(found)


@pytest.mark.parametrize("before", [" ", "\n", "\ufeff", "Bearer ", "acme:"])
def test_no_name_holds_a_token(before):
    """A header's whole value, a file's byte order mark: the proof is on no bill with that before it."""
    found = attribute(metadata={"subject": before + token()}, default="default")

    assert (found.subject, found.flags) == ("default", ("invalid_subject_token",))


def test_a_name_that_reads_like_a_token_is_one():
    """A customer may be called anything."""
    assert attribute(metadata={"subject": "films1.acme.example"}).subject == "films1.acme.example"


def test_no_dimension_holds_a_token():
    """A key that names who pays may be in the list of dimensions as well."""
    found = attribute(metadata={"node": token()}, default="a", rules=RULES)

    assert (found.dimensions, found.flags) == ({}, ("invalid_dimension",))


def test_a_bad_value_does_not_hide_a_good_one():
    """The next key is looked at, and the run around; then nothing is flagged that was not used."""
    metadata = {"llm_metering_subject": token(key="o" * 32), "subject": token("second")}
    found = attribute(metadata=metadata, rules=SIGNED)

    assert (found.subject, found.flags) == ("second", ("invalid_subject_token",))


def test_the_run_around_is_asked_second():
    """Only where the run's own metadata names nobody."""
    asked = []

    def enclosing():
        asked.append(1)
        return {"subject": "outer"}

    own = attribute(metadata={"subject": "inner"}, enclosing=enclosing)
    assert (own.subject, asked) == ("inner", [])
    found = attribute(metadata={"feature": "x"}, enclosing=enclosing)
    assert (found.subject, found.rank, asked) == ("outer", Rank.METADATA, [1])
    assert attribute(metadata=None, enclosing=lambda: None).rank is Rank.NOBODY
    bad = attribute(metadata={"subject": 5}, enclosing=enclosing)
    assert (bad.subject, bad.flags) == ("outer", ("invalid_subject",))


def test_a_pinned_scope_is_not_overridden_by_a_signed_subject():
    """Nor by anything else a request carries; a token is not even looked at."""
    with subject("house", pinned=True):
        found = attribute(metadata={"subject": token()}, rules=SIGNED)

    assert (found.subject, found.rank, found.flags) == ("house", Rank.PINNED_SCOPE, ())


def test_a_handler_and_a_pinned_scope_contradict_each_other():
    """The handler's is billed, by the one order, and it is flagged; agreement is not."""
    with subject("house", pinned=True):
        assert attribute(handler="acme") == Attribution(
            subject="acme", rank=Rank.HANDLER, flags=("subject_conflict",)
        )
        assert attribute(handler="house").flags == ()
    with subject("house"):
        assert attribute(handler="acme").flags == ()


def said(name, rank, *flags, **dimensions):
    return Attribution(subject=name, rank=rank, flags=flags, dimensions=dimensions)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param(
            said("a", Rank.HANDLER, x="1"),
            said("b", Rank.HANDLER, y="2"),
            said("a", Rank.HANDLER, "subject_conflict", x="1"),
            id="two handlers",
        ),
        pytest.param(
            said("a", Rank.PINNED_SCOPE),
            said("b", Rank.HANDLER),
            said("b", Rank.HANDLER, "subject_conflict"),
            id="pinned scope, then handler",
        ),
        pytest.param(
            said("b", Rank.HANDLER),
            said("a", Rank.PINNED_SCOPE),
            said("b", Rank.HANDLER, "subject_conflict"),
            id="handler, then pinned scope",
        ),
        pytest.param(
            said("a", Rank.HANDLER),
            said("a", Rank.HANDLER),
            said("a", Rank.HANDLER),
            id="two of one mind",
        ),
        pytest.param(
            said("a", Rank.HANDLER, "subject_conflict"),
            said("a", Rank.HANDLER),
            said("a", Rank.HANDLER, "subject_conflict"),
            id="a conflict stays",
        ),
        pytest.param(
            said("nobody", Rank.NOBODY, "unattributed", x="1", z="1"),
            said("a", Rank.METADATA, x="2"),
            said("a", Rank.METADATA, x="2", z="1"),
            id="nobody, then somebody",
        ),
        pytest.param(
            said("a", Rank.SCOPE),
            said("b", Rank.METADATA),
            said("b", Rank.METADATA),
            id="ranks that may differ",
        ),
    ],
)
def test_what_two_handlers_say_of_one_call(first, second, expected):
    """The one order of precedence holds over all that are told of a call."""
    assert second.beside(first) == expected


RULES = SubjectRules(dimensions=("node", "thread_id"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("agent", "agent", id="text"),
        pytest.param("", "", id="empty text"),
        pytest.param(True, "true", id="true"),
        pytest.param(False, "false", id="false"),
        pytest.param(42, "42", id="a whole number"),
        pytest.param(-1.5, "-1.5", id="a number"),
        pytest.param(uuid.UUID(int=1), str(uuid.UUID(int=1)), id="a UUID"),
        pytest.param(Plan.GOLD, "gold", id="an enum of text"),
        pytest.param(Level.TOP, "7", id="an enum of numbers"),
        pytest.param(
            "é" * MAX_DIMENSION_LENGTH, "é" * MAX_DIMENSION_LENGTH, id="as long as can be"
        ),
    ],
)
def test_a_scalar_becomes_a_dimension(value, expected):
    """As text, the same in every process, so that usage can be grouped by it."""
    found = attribute(metadata={"node": value}, default="a", rules=RULES)

    assert (found.dimensions, found.flags) == ({"node": expected}, ())
    assert type(found.dimensions["node"]) is str


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("x" * (MAX_DIMENSION_LENGTH + 1), id="too long"),
        pytest.param("a\ud800", id="half a character"),
        pytest.param(10**5000, id="a number without end"),
        pytest.param(float("nan"), id="not a number"),
        pytest.param(float("inf"), id="infinity"),
        pytest.param(["a"], id="a list"),
        pytest.param(("a",), id="a tuple"),
        pytest.param({"a": "b"}, id="a mapping"),
        pytest.param(b"a", id="bytes"),
        pytest.param(object(), id="an object"),
    ],
)
def test_what_is_no_scalar_is_dropped_and_flagged(value):
    """A list or an object may hold anything, a prompt included; a part of a name is another name."""
    found = attribute(metadata={"node": value, "thread_id": "t"}, default="a", rules=RULES)

    assert (found.dimensions, found.flags) == ({"thread_id": "t"}, ("invalid_dimension",))


def test_nothing_but_the_listed_keys_leaves_the_metadata():
    """Without a list, nothing at all."""
    metadata = {"node": "agent", "prompt": "secret", "user": "me"}

    assert attribute(metadata=metadata, rules=RULES).dimensions == {"node": "agent"}
    assert attribute(metadata=metadata).dimensions == {}


def test_a_missing_dimension_is_sought_in_the_run_around():
    """As the subject is; what is in neither is absent, and no oddity."""
    found = attribute(
        metadata={"node": None}, enclosing=lambda: {"node": "agent"}, default="a", rules=RULES
    )

    assert (found.dimensions, found.flags) == ({"node": "agent"}, ())


@pytest.mark.parametrize(
    ("pinned", "expected"),
    [
        pytest.param(False, {"node": "handler", "thread_id": "run", "team": "red"}, id="scope"),
        pytest.param(True, {"node": "handler", "thread_id": "scope", "team": "red"}, id="pinned"),
    ],
)
def test_dimensions_go_by_the_order_of_who_pays(pinned, expected):
    """The handler's, a pinned scope's, the run's, a scope's; each stays where none is before it."""
    rules = SubjectRules(dimensions=("node", "thread_id"))
    with subject("a", pinned=pinned, thread_id="scope", node="scope", team="red"):
        found = attribute(
            handler="b",
            dimensions={"node": "handler"},
            metadata={"thread_id": "run", "node": "run"},
            rules=rules,
        )

    assert found.dimensions == expected


@given(
    st.dictionaries(
        st.sampled_from(["llm_metering_subject", "subject", "node", "thread_id"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        ),
    ),
    st.sampled_from([RULES, SIGNED, SubjectRules(keys=("node",), dimensions=("subject_line",))]),
)
def test_whatever_the_metadata_holds_an_event_can_be_made_of_it(metadata, rules):
    """Always a subject and dimensions that every sink takes; never an error."""
    found = attribute(metadata=metadata, rules=rules)

    assert check_subject(found.subject) == found.subject
    check_dimensions(found.dimensions)
    assert all(is_unicode(value) for value in found.dimensions.values())
    assert (found.rank is Rank.NOBODY) == ("unattributed" in found.flags)


@pytest.mark.parametrize("value", [Text("gold"), Plan.GOLD], ids=["a class of text", "an enum"])
def test_a_class_derived_from_text_is_taken_as_text(value, meter):
    """The encoder of events takes plain strings only; the call would be lost with its start."""
    found = [
        attribute(metadata={"subject": value}).subject,
        attribute(metadata={"node": value}, rules=RULES).dimensions["node"],
        check_subject(value),
        *plain_dimensions({value: value}).items(),
    ]
    with subject(value, tier=value):
        scoped = attribute()

    assert found == ["gold", "gold", "gold", ("gold", "gold")]
    assert {type(each) for each in [*found[:3], *found[3], scoped.subject]} == {str}
    assert type(scoped.dimensions["tier"]) is str
    assert meter.record(None, value, quantity=1, unit="images", dimensions={"tier": value})


@pytest.mark.parametrize("key", sorted(DATA_KEYS))
def test_a_dimension_that_hides_a_field_is_refused(key):
    """In a scope as in a handler; from metadata it cannot come, since the list refuses it."""
    with pytest.raises(SubjectError, match=key):
        subject("a", **{key: "x"})


@pytest.fixture
def meter(home):
    from llm_metering import Meter

    with Meter(home, sinks=["memory:"], ledger=False) as meter:
        yield meter


@pytest.fixture
def strict(home):
    from llm_metering import Meter

    with Meter(home, ["memory:"], ledger=False, on_missing_subject="raise") as meter:
        yield meter


USAGE = {"quantity": 1, "unit": "images"}


def test_recording_for_nobody_is_refused(strict):
    """Where the settings say so; with somebody named in any way it goes through."""
    with pytest.raises(MissingSubjectError, match="nobody is named"):
        strict.record(None, **USAGE)
    with pytest.raises(MissingSubjectError):
        strict.metered_stream(iter([]))
    with subject("scope"):
        assert strict.record(None, **USAGE).subject == "scope"
    assert strict.record(None, "argument", **USAGE).subject == "argument"
    strict.subject = "default"
    assert strict.record(None, **USAGE).subject == "default"
    assert strict.statistics()["recorded"] == 3


def test_recording_for_nobody_is_no_error_otherwise(meter):
    """It is kept, and flagged."""
    event = meter.record(None, **USAGE)

    assert (event.subject, event.flags) == (UNATTRIBUTED, ("unattributed",))


def test_calls_for_nobody_are_logged_once_a_minute(caplog):
    """With their number, and nothing of the calls."""
    now = [0.0]
    missing = MissingSubjects("warn", now=lambda: now[0])
    for now[0] in (1.0, 2.0, 60.0, 61.0):
        assert missing.refusal() is None

    messages = [record.getMessage() for record in caplog.records]
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert [message.split()[0] for message in messages] == ["1", "3"]


def test_the_usual_policy_says_nothing(caplog):
    """What is flagged and counted needs no log."""
    assert MissingSubjects().refusal() is None
    assert caplog.text == ""
