"""Signed subjects: what a token says, and that nobody without the key can make or change one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

import llm_metering
from llm_metering.errors import MeteringError, SubjectError, SubjectTokenError
from llm_metering.subjects import SubjectVerifier, sign_subject

KEY = "k" * 32
OTHER = "o" * 32
NOON = 1_795_000_000.0


@pytest.fixture
def clock(monkeypatch):
    """The time at which tokens are signed; the verifier has its own."""
    monkeypatch.setattr("llm_metering.subjects.tokens.time.time", lambda: NOON)


def verifier(*keys, audience="llm-metering", now=NOON):
    return SubjectVerifier(keys or [KEY], audience=audience, now=lambda: now)


def text(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def by_hand(claims, key=KEY, prefix="lms1"):
    """A token as another program would make it, from what the documentation says of the format."""
    key_id = text(hashlib.sha256(b"llm-metering subject key:" + key.encode()).digest()[:6])
    signed = f"{prefix}.{key_id}.{text(claims)}"
    return f"{signed}.{text(hmac.new(key.encode(), signed.encode(), hashlib.sha256).digest())}"


def reason_for_refusing(token, check=None):
    with pytest.raises(SubjectTokenError) as caught:
        (check or verifier()).verify(token)
    assert isinstance(caught.value, SubjectError)
    # Nothing of the token: whoever reads a log could use it.
    assert not any(part in str(caught.value) for part in token.split(".")[1:] if len(part) > 5)
    return caught.value.reason


def test_a_token_says_who_pays(clock):
    """It is read under the same key and for the same audience."""
    token = sign_subject("customer-42", KEY, audience="shop")

    assert verifier(audience="shop").verify(token) == "customer-42"


def test_the_format_is_the_documented_one(clock):
    """Another program can make it; this vector stands in the documentation, and never changes."""
    token = sign_subject("customer-42", KEY, audience="shop", expires=60)

    assert token == by_hand(b'{"aud":"shop","exp":1795000060,"sub":"customer-42"}')
    assert token == (
        "lms1.TlnE-V6I.eyJhdWQiOiJzaG9wIiwiZXhwIjoxNzk1MDAwMDYwLCJzdWIiOiJjdXN0b21lci00MiJ9"
        ".HLeXfMIsNYun0EwO6FjddRA8SMRRrJnXZwYEyR7n-ys"
    )


@given(subject=st.text(min_size=1, max_size=1000), audience=st.text(min_size=1))
def test_every_subject_survives(subject, audience):
    """Whatever can be a subject can be signed, and comes back as it was."""
    try:
        token = sign_subject(subject, KEY, audience=audience)
    except SubjectError:
        assert not subject.strip() or "\0" in subject
        return

    assert SubjectVerifier([KEY], audience=audience).verify(token) == subject
    assert token.isascii()


@given(
    subject=st.text(st.characters(codec="utf-8", min_codepoint=1), min_size=1, max_size=60).filter(
        str.strip
    ),
    data=st.data(),
)
def test_no_changed_bit_verifies(subject, data):
    """Of the whole token, its code included, of which base64 has several spellings."""
    token = sign_subject(subject, KEY).encode()
    bit = data.draw(st.integers(0, len(token) * 8 - 1))
    changed = bytearray(token)
    changed[bit // 8] ^= 1 << bit % 8

    reason_for_refusing(changed.decode("latin-1"), SubjectVerifier([KEY]))


def test_no_last_character_but_the_right_one_verifies():
    """Four spellings of the last character stand for the same bytes of the code."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_="
    token = sign_subject("customer-42", KEY)

    for last in alphabet.replace(token[-1], ""):
        reason_for_refusing(token[:-1] + last, SubjectVerifier([KEY]))
    for more in ("=", "A", ".", "\n", " "):
        reason_for_refusing(token + more, SubjectVerifier([KEY]))


@given(st.one_of(st.text(), st.text().map("lms1.".__add__), st.text().map("lms1.a.b.".__add__)))
def test_nothing_else_is_a_token(token):
    """Whatever a request brings: an error of ours, and no other."""
    reason_for_refusing(token, SubjectVerifier([KEY]))


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        pytest.param(lambda: sign_subject("a", OTHER), "unknown_key", id="another key"),
        pytest.param(
            lambda: sign_subject("a", KEY, audience="b"), "wrong_audience", id="another audience"
        ),
        pytest.param(
            lambda: sign_subject("a", KEY).replace("lms1.", "lms2."),
            "malformed",
            id="a later format",
        ),
        pytest.param(lambda: "customer-42", "malformed", id="a name"),
        pytest.param(lambda: "", "malformed", id="nothing"),
        pytest.param(lambda: "lms1." + "a" * 20_000, "malformed", id="far too long"),
        pytest.param(lambda: by_hand(b'{"aud":"llm-metering","exp":1}'), "malformed", id="nobody"),
        pytest.param(
            lambda: by_hand(b'{"aud":"llm-metering","exp":9e99,"sub":"a"}'),
            "malformed",
            id="no end",
        ),
        pytest.param(
            lambda: by_hand(b'{"aud":"llm-metering","exp":9999999999,"sub":" "}'),
            "malformed",
            id="a subject that is none",
        ),
        pytest.param(
            lambda: by_hand(b'{"aud":"llm-metering","exp":9999999999,"sub":"a","admin":true}'),
            "malformed",
            id="more than we know",
        ),
        pytest.param(lambda: by_hand(b"\xff"), "malformed", id="no JSON"),
    ],
)
def test_what_is_refused(token, reason, clock):
    """Each for its reason, which an operator's own program may want to know."""
    assert reason_for_refusing(token()) == reason


def test_a_name_of_the_key_is_no_key(clock):
    """A token of another key that names ours as its own has the wrong code."""
    ours, theirs = sign_subject("a", KEY), sign_subject("a", OTHER)
    forged = ".".join([*ours.split(".")[:2], *theirs.split(".")[2:]])

    assert reason_for_refusing(forged, verifier(KEY, OTHER)) == "wrong_signature"


def test_a_code_of_another_token_fits_none(clock):
    """Who has a token for one subject cannot have it say another."""
    mine, theirs = (sign_subject(name, KEY) for name in ("mine", "theirs"))
    forged = ".".join([*theirs.split(".")[:3], mine.split(".")[3]])

    assert reason_for_refusing(forged) == "wrong_signature"


def test_keys_are_replaced_without_a_gap(clock):
    """While both are known, tokens of the old and of the new one hold; afterwards the old do not."""
    old, new = sign_subject("a", KEY), sign_subject("a", OTHER)

    assert [verifier(OTHER, KEY).verify(token) for token in (old, new)] == ["a", "a"]
    assert verifier(OTHER).verify(new) == "a"
    assert reason_for_refusing(old, verifier(OTHER)) == "unknown_key"


@pytest.mark.parametrize(
    ("expires", "end"),
    [
        pytest.param(None, NOON + 3600, id="an hour unless it is said"),
        pytest.param(60, NOON + 60, id="seconds"),
        pytest.param(0.25, NOON + 1, id="a part of a second"),
        pytest.param(timedelta(days=1), NOON + 86_400, id="after a while"),
        pytest.param(datetime.fromtimestamp(NOON + 9, UTC), NOON + 9, id="at a moment"),
        pytest.param(
            datetime.fromtimestamp(NOON + 9.5, UTC), NOON + 10, id="at a moment between seconds"
        ),
    ],
)
def test_a_token_expires(expires, end, clock):
    """It holds up to the end it names, and not in that second."""
    token = sign_subject("a", KEY, **({} if expires is None else {"expires": expires}))

    assert verifier(now=end - 0.001).verify(token) == "a"
    assert reason_for_refusing(token, verifier(now=end)) == "expired"


def test_a_clock_that_lags_refuses_nothing(clock):
    """A token has no beginning: the clocks of two machines differ."""
    assert verifier(now=NOON - 300).verify(sign_subject("a", KEY)) == "a"


@pytest.mark.parametrize(
    "expires",
    [
        pytest.param(0, id="now"),
        pytest.param(-1, id="before now"),
        pytest.param(timedelta(0), id="after no time"),
        pytest.param(datetime.fromtimestamp(NOON, UTC), id="a moment that is now"),
        pytest.param(datetime(2126, 1, 1), id="a moment without a zone"),
        pytest.param(float("nan"), id="not a number"),
        pytest.param(float("inf"), id="for ever"),
        pytest.param(1e15, id="beyond the calendar"),
        pytest.param(True, id="a switch"),
        pytest.param(None, id="never"),
        pytest.param("1h", id="text"),
    ],
)
def test_a_token_without_a_sensible_end_is_not_made(expires, clock):
    """One that never expires could be taken back only by changing the key."""
    with pytest.raises(ValueError, match="expires"):
        sign_subject("a", KEY, expires=expires)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("short", id="short"),
        pytest.param("s" * 31, id="one byte short"),
        pytest.param(" " * 32 + "s" * 31 + "\n", id="short but for spaces"),
        pytest.param(b"s" * 31, id="short bytes"),
        pytest.param(None, id="None"),
        pytest.param(5, id="a number"),
    ],
)
def test_a_weak_key_is_refused(key):
    """By who signs and by who verifies, and the error does not repeat it."""
    for attempt in (lambda: sign_subject("a", key), lambda: SubjectVerifier([key])):
        with pytest.raises(ValueError, match="at least 32 bytes") as caught:
            attempt()
        assert "sss" not in str(caught.value)
        assert "short" not in str(caught.value)


def test_text_and_bytes_are_one_key():
    """As is the text with the line break that a file leaves on it."""
    token = sign_subject("a", KEY.encode())

    assert SubjectVerifier([KEY + "\n"]).verify(token) == "a"
    assert sign_subject("a", KEY).split(".")[1] == token.split(".")[1]


@pytest.mark.parametrize("subject", ["", " ", None, 5, "a" * 1001, "\ud800"])
def test_what_is_no_subject_is_not_signed(subject):
    """The mistake is told where it is made."""
    with pytest.raises(SubjectError):
        sign_subject(subject, KEY)


@pytest.mark.parametrize("audience", ["", None, 5])
def test_what_is_no_audience_is_not_signed(audience):
    """The mistake is told where it is made."""
    with pytest.raises(ValueError, match="audience"):
        sign_subject("a", KEY, audience=audience)


def test_a_verifier_shows_no_key():
    """Wherever it is printed."""
    assert repr(verifier(KEY, OTHER)) == "<SubjectVerifier 'llm-metering' keys=2>"


def test_it_is_a_part_of_the_package():
    """Where a web application looks for it; signing needs neither a meter nor a framework."""
    assert llm_metering.sign_subject is sign_subject
    assert issubclass(SubjectTokenError, MeteringError)
    code = (
        "import sys, llm_metering; llm_metering.sign_subject('a', 'k' * 32);"
        "print({'langchain_core', 'httpx', 'sqlite3', 'pydantic'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_claims_are_no_secret():
    """Whoever has the token can read it: it is signed, not encrypted."""
    claims = sign_subject("customer-42", KEY).split(".")[2]

    assert json.loads(base64.urlsafe_b64decode(claims + "=="))["sub"] == "customer-42"
