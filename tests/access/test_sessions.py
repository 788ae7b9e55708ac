"""Who has signed in is known for a while, by a text that is no key."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta

import pytest

from llm_metering.access import ApiKeys, Sessions
from llm_metering.access.file import FILE
from llm_metering.access.sessions import LIFE
from llm_metering.errors import ApiKeyError
from llm_metering.testing import FakeClock


@pytest.fixture
def clock():
    return FakeClock(1_795_000_000.25)


@pytest.fixture
def sessions(tmp_path, clock):
    with closing(Sessions(tmp_path, clock=clock)) as sessions:
        yield sessions


def reason(sessions, text) -> str:
    """Why it is not accepted."""
    with pytest.raises(ApiKeyError) as caught:
        sessions.recognise(text)
    return caught.value.reason


def test_who_signed_in_is_recognised_until_it_ends(sessions, clock):
    """After half a day nobody is."""
    session, text = sessions.begin("0123456789ab")
    assert sessions.recognise(text) == session
    clock.advance(LIFE.total_seconds() - 1)
    assert sessions.recognise(text).key == "0123456789ab"
    clock.advance(1)
    assert reason(sessions, text) == "expired"


def test_whoever_signs_out_is_forgotten_in_all_processes(sessions, tmp_path):
    """The others stay signed in."""
    _, text = sessions.begin("0123456789ab")
    _, other = sessions.begin("0123456789ab")
    with closing(Sessions(tmp_path)) as elsewhere:
        elsewhere.end(text)
    sessions.end("lms_" + "x" * 43)
    assert reason(sessions, text) == "unknown"
    assert sessions.recognise(other).key == "0123456789ab"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "malformed"),
        ("lmk_0123456789ab_" + "x" * 43, "malformed"),
        ("lms_" + "x" * 42, "malformed"),
        ("lms_" + "x" * 44, "malformed"),
        ("lms_" + "ü" * 43, "malformed"),
        ("lms_" + "\ud800" * 43, "malformed"),
        ("lms_" + "x" * 43, "unknown"),
    ],
    ids=ascii,
)
def test_nothing_else_is_a_session(sessions, text, why):
    """Before there is any, and with one beside it."""
    assert reason(sessions, text) == why
    sessions.begin("0123456789ab")
    assert reason(sessions, text) == why


def test_the_file_holds_nothing_to_sign_in_with(sessions, tmp_path):
    """Who reads it has no text of a session."""
    _, text = sessions.begin("0123456789ab")
    sessions.close()
    assert text.removeprefix("lms_").encode() not in (tmp_path / FILE).read_bytes()


def test_what_is_over_is_not_kept(sessions, clock, tmp_path):
    """The next one who signs in clears it away."""
    _, old = sessions.begin("0123456789ab")
    clock.advance(LIFE.total_seconds())
    sessions.begin("0123456789ab")
    assert reason(sessions, old) == "unknown"


def test_a_key_is_found_by_its_id_as_long_as_it_holds(tmp_path, clock):
    """Not one that was taken back or has ended, nor one that never was."""
    with closing(ApiKeys(tmp_path, clock=clock)) as keys:

        def why(id):
            with pytest.raises(ApiKeyError) as caught:
                keys.find(id)
            return caught.value.reason

        assert why("0123456789ab") == "unknown"
        key, _ = keys.create("a", ["read"])
        short, _ = keys.create("b", ["read"], expires_at=key.created_at + timedelta(minutes=1))
        assert keys.find(key.id) == key
        assert why("0123456789ab") == "unknown"
        keys.revoke(key.id)
        assert why(key.id) == "revoked"
        clock.advance(60)
        assert why(short.id) == "expired"
