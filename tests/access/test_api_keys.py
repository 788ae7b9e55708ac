"""Keys are made, shown once, recognised, replaced and taken back; a secret is nowhere."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from llm_metering.access import ApiKeys
from llm_metering.access.file import FILE
from llm_metering.errors import AccessStoreError, ApiKeyError, InvalidArgumentError
from llm_metering.testing import FakeClock

HOUR = timedelta(hours=1)


@pytest.fixture
def clock():
    return FakeClock(1_795_000_000.0)


@pytest.fixture
def keys(tmp_path, clock):
    with closing(ApiKeys(tmp_path, clock=clock)) as keys:
        yield keys


def now(clock) -> datetime:
    return datetime.fromtimestamp(clock(), UTC)


def reason(keys, text: str) -> str | None:
    """Why a key is not accepted; `None` if it is."""
    try:
        keys.recognise(text)
    except ApiKeyError as error:
        return error.reason
    return None


def test_a_key_may_do_what_it_was_made_for(keys, clock):
    """It is recognised by its text, which is returned once."""
    key, text = keys.create(
        "checkout",
        ["ingest"],
        sources=["shop"],
        subjects=["acme", "globex"],
        signed_subjects=True,
        requests_per_minute=600,
        expires_at=now(clock) + HOUR,
    )

    found = keys.recognise(text)

    assert found == key
    assert keys.all() == [key]
    assert (found.may("ingest"), found.may("read"), found.may("admin")) == (True, False, False)
    assert (found.covers_source("shop"), found.covers_source("other")) == (True, False)
    assert (found.covers_subject("acme"), found.covers_subject("other")) == (True, False)
    assert text.startswith(f"lmk_{key.id}_")


def test_a_key_that_is_bound_to_nothing_covers_all(keys):
    """And admin has every scope."""
    key, _ = keys.create("operator", ["admin"])

    assert all(key.may(scope) for scope in ("ingest", "read", "admin"))
    assert key.covers_source("any")
    assert key.covers_subject("any")


def test_no_secret_is_kept(keys, tmp_path):
    """Neither in the files nor in what is shown of a key; nobody else may read the files."""
    key, text = keys.create("checkout", ["ingest"])
    secret = text.split("_", 2)[2]

    stored = b"".join(each.read_bytes() for each in tmp_path.iterdir())

    assert secret.encode() not in stored
    assert secret not in repr((key, keys, keys.all()))
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_two_keys_have_nothing_in_common(keys):
    """Neither id nor secret."""
    texts = [keys.create("same", ["read"])[1] for _ in range(50)]

    parts = [part for text in texts for part in text[4:].split("_", 1)]
    assert len(set(parts)) == 100


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda text: text, None),
        (lambda text: text[:-1] + ("A" if text[-1] != "A" else "B"), "wrong_secret"),
        (lambda text: "lmk_000000000000" + text[16:], "unknown"),
        (lambda text: text + "A", "malformed"),
        (lambda text: text[:-1], "malformed"),
        (lambda text: text.upper(), "malformed"),
        (lambda text: f"{text}\n", "malformed"),
        (lambda text: text.replace("_", "\0", 1), "malformed"),
        (lambda text: text[:-1] + "é", "malformed"),
        (lambda text: "", "malformed"),
        (lambda text: "x" * 1_000_000, "malformed"),
    ],
    ids=[
        *(
            "itself",
            "another secret",
            "another id",
            "longer",
            "shorter",
            "upper case",
            "a line break",
        ),
        *("NUL", "another letter", "nothing", "very long"),
    ],
)
def test_only_the_text_itself_is_accepted(keys, change, expected):
    """Whatever else is shown."""
    _, text = keys.create("checkout", ["read"])

    assert reason(keys, change(text)) == expected


def test_an_error_does_not_repeat_the_key(keys):
    """It ends up in a log."""
    key, text = keys.create("checkout", ["read"])
    keys.revoke(key.id)

    with pytest.raises(ApiKeyError) as caught:
        keys.recognise(text)

    assert (caught.value.id, caught.value.reason) == (key.id, "revoked")
    assert text.split("_", 2)[2] not in f"{caught.value!r} {caught.value}"


def test_without_any_key_none_is_accepted(keys, tmp_path):
    """And no file is made by whoever tries one."""
    assert reason(keys, f"lmk_{'0' * 12}_{'a' * 43}") == "unknown"
    assert keys.all() == []
    assert list(tmp_path.iterdir()) == []


def test_a_key_ends(keys, clock):
    """At the moment that was said, and not before."""
    _, text = keys.create("for an hour", ["read"], expires_at=now(clock) + HOUR)

    clock.advance(3599.999)
    assert reason(keys, text) is None
    clock.advance(0.001)
    assert reason(keys, text) == "expired"


def test_a_key_that_was_taken_back_holds_nowhere_any_more(keys, tmp_path, clock):
    """From that moment on, in every process that has the file open."""
    key, text = keys.create("checkout", ["read"])
    with closing(ApiKeys(tmp_path)) as elsewhere:
        assert elsewhere.recognise(text)
        script = (
            "import sys; from pathlib import Path; from llm_metering.access import ApiKeys\n"
            "print(ApiKeys(Path(sys.argv[1])).revoke(sys.argv[2]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, tmp_path, key.id], capture_output=True, check=True
        )

        assert done.stdout.split() == [b"True"]
        assert reason(elsewhere, text) == reason(keys, text) == "revoked"
    assert not keys.revoke(key.id)
    assert keys.all()[0].revoked_at is not None
    with pytest.raises(ApiKeyError) as caught:
        keys.revoke("000000000000")
    assert caught.value.reason == "unknown"


def test_a_key_is_replaced(keys, clock):
    """By one of the same rights; for a while both hold, and then the new one."""
    ends = now(clock) + 10 * HOUR
    old, text = keys.create(
        "checkout", ["ingest"], sources=["shop"], subjects=["acme"], expires_at=ends
    )
    clock.advance(60)

    new, other = keys.rotate(old.id, overlap=HOUR)

    assert (new.scopes, new.sources, new.subjects, new.name) == (
        (old.scopes, old.sources, old.subjects, old.name)
    )
    assert new.expires_at == ends
    assert keys.all()[0].successor == new.id
    assert reason(keys, text) is reason(keys, other) is None
    clock.advance(3600)
    assert (reason(keys, text), reason(keys, other)) == ("expired", None)


def test_to_replace_a_key_lengthens_no_life(keys, clock):
    """Neither of one that ends sooner than both were to hold, nor of one that is over."""
    old, text = keys.create("checkout", ["read"], expires_at=now(clock) + HOUR)
    new, _ = keys.rotate(old.id, overlap=5 * HOUR)
    clock.advance(3600)
    assert reason(keys, text) == "expired"

    for id, expected in ((old.id, "expired"), (new.id, "expired"), ("0" * 12, "unknown")):
        with pytest.raises(ApiKeyError) as caught:
            keys.rotate(id)
        assert caught.value.reason == expected
    assert len(keys.all()) == 2


def test_a_key_is_replaced_once(keys):
    """Else there would be two in its place, of which nobody knows."""
    old, _ = keys.create("checkout", ["read"])
    keys.rotate(old.id, overlap=HOUR)

    with pytest.raises(ApiKeyError) as caught:
        keys.rotate(old.id, overlap=HOUR)

    assert (caught.value.reason, caught.value.id, len(keys.all())) == ("replaced", old.id, 2)


BAD = [
    pytest.param({"name": ""}, id="no name"),
    pytest.param({"name": "x" * 101}, id="a long name"),
    pytest.param({"name": "a\nb"}, id="a name of two lines"),
    pytest.param({"scopes": []}, id="no scope"),
    pytest.param({"scopes": ["write"]}, id="an unknown scope"),
    pytest.param({"subjects": []}, id="bound to no subject"),
    pytest.param({"sources": [""]}, id="bound to an empty source"),
    pytest.param({"subjects": [5]}, id="bound to a number"),
    pytest.param({"scopes": ["admin"], "subjects": ["acme"]}, id="admin of one subject"),
    pytest.param({"scopes": ["admin", "read"], "sources": ["shop"]}, id="admin of one source"),
    pytest.param({"scopes": ["ingest", "read"], "signed_subjects": True}, id="signed and reading"),
    pytest.param({"requests_per_minute": 0}, id="no requests"),
    pytest.param({"expires_at": datetime(2030, 1, 1)}, id="no time zone"),
    pytest.param({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, id="over already"),
    pytest.param({"subjects": map(str, range(1001))}, id="a thousand and one"),
]


@pytest.mark.parametrize("bad", BAD)
def test_a_key_that_would_do_something_else_is_not_made(keys, bad):
    """What was meant can't be known, so nothing is made."""
    with pytest.raises(InvalidArgumentError):
        keys.create(**{"name": "checkout", "scopes": ["ingest"], **bad})
    assert keys.all() == []


def test_a_file_that_cannot_be_read_accepts_nobody(keys, tmp_path):
    """It is our trouble, and said to be that."""
    _, text = keys.create("checkout", ["read"])
    keys.close()
    (tmp_path / FILE).write_bytes(b"x" * 8192)

    with pytest.raises(AccessStoreError):
        keys.recognise(text)


def test_names_are_whatever_they_are(keys):
    """A name that looks like SQL, JSON or a path is a name."""
    odd = ["a'); DROP TABLE api_keys; --", '["x"]', "../../etc/passwd", "a\0b", "🦜"]
    key, text = keys.create("checkout", ["read"], subjects=odd)

    assert keys.recognise(text).subjects == frozenset(odd)
    assert json.dumps(sorted(key.subjects or [])) == json.dumps(sorted(odd))
