"""A customer's token shows one subject, for a while, until somebody takes it back."""

from __future__ import annotations

import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from llm_metering.access import ApiKeys, PortalTokens
from llm_metering.access.file import FILE
from llm_metering.errors import (
    AccessStoreError,
    InvalidArgumentError,
    PortalTokenError,
    SubjectError,
)
from llm_metering.testing import FakeClock

MINUTE = timedelta(minutes=1)


@pytest.fixture
def clock():
    return FakeClock(1_795_000_000.25)


@pytest.fixture
def tokens(tmp_path, clock):
    with closing(PortalTokens(tmp_path, clock=clock)) as tokens:
        yield tokens


def reason(work, *given) -> str | None:
    """Why it is not accepted; `None` if it is."""
    try:
        work(*given)
    except PortalTokenError as error:
        return error.reason
    return None


def claims_of(text: str) -> bytes:
    part = text.split(".")[1]
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_a_token_shows_one_subject(tokens):
    """And the meters that it names; all, if it names none."""
    token, text = tokens.create("acme", meters=["tokens_total", "calls_total"])
    every, other = tokens.create("globex")

    assert tokens.recognise(text) == token
    assert (token.covers_meter("tokens_total"), token.covers_meter("cost_total")) == (True, False)
    assert tokens.recognise(other) == every
    assert (every.subject, every.covers_meter("cost_total")) == ("globex", True)
    assert tokens.all() == [*sorted((token, every), key=lambda each: each.id)]
    assert tokens.all(subject="acme") == [token]


def test_the_format_is_the_published_one(tokens):
    """An hour by default, in whole seconds."""
    token, text = tokens.create("acmé", meters=["b", "a"])

    assert token.expires_at == datetime.fromtimestamp(1_795_003_600, UTC)
    expected = f'{{"exp":1795003600,"id":"{token.id}","sub":"acmé","met":["a","b"]}}'
    assert claims_of(text) == expected.encode()
    assert b"met" not in claims_of(tokens.create("acme")[1])


def test_nobody_makes_a_token_up(tokens, tmp_path):
    """Any change of any character, or claims of one's own under the code of another one."""
    _, text = tokens.create("acme")
    _, other = tokens.create("globex")
    for place in range(len(text)):
        changed = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
        assert reason(tokens.recognise, changed) in ("malformed", "wrong_signature"), place
    mine = urlsafe_b64encode(claims_of(text).replace(b"acme", b"ecma")).rstrip(b"=").decode()
    code = text.rpartition(".")[2]
    assert reason(tokens.recognise, f"lmp1.{mine}.{code}") == "wrong_signature"
    swapped = f"{text.rpartition('.')[0]}.{other.rpartition('.')[2]}"
    assert reason(tokens.recognise, swapped) == "wrong_signature"
    with closing(PortalTokens(tmp_path / "elsewhere")) as elsewhere:
        assert reason(elsewhere.recognise, text) == "wrong_signature"
        elsewhere.create("acme")
        assert reason(elsewhere.recognise, text) == "wrong_signature"


@pytest.mark.parametrize(
    "text",
    ["", "lmp1.", "lmp1..", "lmp1.e30.", f"lmp2.e30.{'a' * 43}", "x" * 100_000, "é", "a\0b"],
    ids=["nothing", "prefix", "dots", "no code", "another version", "long", "letter", "NUL"],
)
def test_what_is_no_token_is_malformed(tokens, text):
    """Before anything is looked up."""
    assert reason(tokens.recognise, text) == "malformed"


def test_a_token_ends(tokens, clock):
    """At its second."""
    _, text = tokens.create("acme", life=MINUTE)

    clock.advance(59.7)
    assert reason(tokens.recognise, text) is None
    clock.advance(0.1)
    assert reason(tokens.recognise, text) == "expired"


def test_a_token_is_taken_back_everywhere(tokens, tmp_path):
    """One, or all of a subject; in every process that has the file open."""
    first, text = tokens.create("acme")
    _, second = tokens.create("acme")
    _, third = tokens.create("globex")
    with closing(PortalTokens(tmp_path, clock=tokens._clock)) as elsewhere:
        assert elsewhere.recognise(text)
        assert tokens.revoke(id=first.id) == 1
        assert reason(elsewhere.recognise, text) == "revoked"
        assert reason(elsewhere.recognise, second) is None
        assert elsewhere.revoke(subject="acme") == 1
    assert [reason(tokens.recognise, each) for each in (text, second, third)] == [
        "revoked",
        "revoked",
        None,
    ]
    assert tokens.revoke(id="none") == tokens.revoke(subject="nobody") == 0
    with pytest.raises(InvalidArgumentError):
        tokens.revoke()


def test_a_code_is_exchanged_once(tokens):
    """For the same token; whoever finds the link later gets nothing."""
    token, text = tokens.create("acme", meters=["tokens_total"])
    code = tokens.code_for(token.id)

    assert tokens.exchange(code) == (token, text)
    assert reason(tokens.exchange, code) == "unknown"
    assert reason(tokens.exchange, "made up") == reason(tokens.exchange, "\ud800") == "unknown"


def test_of_many_who_come_at_once_one_gets_the_token(tokens):
    """A code is used in one step."""
    token, _ = tokens.create("acme")
    code = tokens.code_for(token.id)
    together = threading.Barrier(8)
    seen = []

    def work():
        together.wait()
        seen.append(reason(tokens.exchange, code))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(seen, key=str) == [None, *["unknown"] * 7]


def test_a_code_is_for_soon(tokens, clock):
    """Five minutes; and for a token that holds."""
    token, _ = tokens.create("acme", life=60 * MINUTE)
    late, revoked = tokens.code_for(token.id), tokens.code_for(token.id)
    clock.advance(300)
    assert reason(tokens.exchange, late) == "unknown"

    revoked = tokens.code_for(token.id)
    tokens.revoke(id=token.id)
    assert reason(tokens.exchange, revoked) == "revoked"
    assert reason(tokens.code_for, token.id) == "revoked"
    assert reason(tokens.code_for, "none") == "unknown"


def test_neither_tokens_nor_codes_are_in_the_file(tokens, tmp_path):
    """Who reads a backup of it has the secret, and no code; nobody else may read the file."""
    token, text = tokens.create("acme")
    code = tokens.code_for(token.id)

    stored = b"".join(each.read_bytes() for each in tmp_path.iterdir())

    assert code.encode() not in stored
    assert text.encode() not in stored
    assert text.rpartition(".")[2] not in repr((token, tokens))
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_what_is_long_over_is_forgotten(tokens, clock):
    """A month after its end it is in no list, and still not accepted."""
    _, text = tokens.create("acme", life=MINUTE)
    clock.advance(31 * 86_400)
    tokens.create("globex")

    assert [each.subject for each in tokens.all()] == ["globex"]
    assert reason(tokens.recognise, text) == "unknown"


@pytest.mark.parametrize(
    "bad",
    [
        {"meters": []},
        {"meters": ["Tokens"]},
        {"meters": ["a/b"]},
        {"meters": [5]},
        {"meters": [f"m{number}" for number in range(101)]},
        {"life": timedelta(0)},
        {"life": timedelta(days=367)},
    ],
    ids=["no meter", "no slug", "a path", "a number", "too many", "no time", "too long"],
)
def test_a_token_that_would_do_something_else_is_not_made(tokens, bad):
    """What was meant can't be known."""
    with pytest.raises(InvalidArgumentError):
        tokens.create("acme", **bad)
    assert tokens.all() == []


def test_a_subject_is_a_subject(tokens):
    """As everywhere else."""
    with pytest.raises(SubjectError):
        tokens.create("")


def test_asking_makes_no_file(tokens, tmp_path):
    """There is nothing yet, and whoever tries something leaves nothing."""
    assert tokens.all() == []
    assert tokens.revoke(subject="acme") == 0
    assert reason(tokens.recognise, f"lmp1.e30.{'a' * 43}") == "wrong_signature"
    assert reason(tokens.exchange, "code") == "unknown"
    assert list(tmp_path.iterdir()) == []


def test_keys_and_tokens_share_a_file(tokens, tmp_path):
    """Whichever comes first."""
    token, text = tokens.create("acme")
    with closing(ApiKeys(tmp_path)) as keys:
        keys.create("operator", ["admin"])
    assert tokens.recognise(text) == token


def test_a_file_that_cannot_be_read_accepts_nobody(tokens, tmp_path):
    """It is our trouble, and said to be that."""
    _, text = tokens.create("acme")
    tokens.close()
    (tmp_path / FILE).write_bytes(b"x" * 8192)

    with pytest.raises(AccessStoreError):
        tokens.recognise(text)
