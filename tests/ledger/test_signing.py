"""Who inserts into a ledger signs what is inserted, and who has no key for it does not insert."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from llm_metering.events import encode
from llm_metering.ledger import Ledger, _chain, verifying
from llm_metering.ledger._links import CONTENT, Seal, Signer, digest_of
from llm_metering.ledger.intake import Intake, Stretch
from llm_metering.ledger.staging import staging
from llm_metering.sinks import Delivery
from tests.factories import NOON, batch_of, make_event

KEY = b"k" * 32
NEW = b"n" * 32
OTHER = b"o" * 32


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "ledger.db"


def deliver(path: Path, *keys: bytes, number: int = 3, **changes: object) -> Delivery:
    with closing(Ledger(path, keys=keys)) as ledger:
        return ledger.deliver(batch_of(make_event(**changes) for _ in range(number)))


def read(path: Path, question: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(question).fetchall()


def seals(path: Path) -> list[Seal]:
    with closing(sqlite3.connect(path)) as connection:
        return _chain.read_seals(connection)


def verify(path: Path, *keys: bytes):
    return Ledger(path, keys=keys).verify()


def test_each_event_is_signed_with_the_one_before_it(path):
    """As the format says, worked out here anew; whichever of two writers inserts it, and once."""
    again = batch_of([make_event()])
    deliver(path, KEY)
    for _ in range(2):
        with closing(Ledger(path, keys=[KEY])) as ledger:
            ledger.deliver(again)
    deliver(path, KEY, subject='a"\x01\\b é', model="a\0b")

    signer = Signer(KEY)
    [first] = seals(path)
    link = first.mac
    assert first == signer.seal(None, first)
    question = f"SELECT {CONTENT}, payload, mac FROM events JOIN links ON place = events.rowid"
    rows = read(path, f"{question} ORDER BY place")
    for content, payload, mac in rows:
        link = signer.link(link, content, digest_of(payload))
        assert mac == link
    found = verify(path, KEY)
    assert (found.is_intact, found.events, found.signed) == (True, 7, 7)
    assert found.head.link == link.hex()


def test_the_signature_is_of_the_published_format():
    """So that it can be checked without this library."""
    import hashlib
    import hmac

    before, content, body = b"b" * 32, '[1,"shop","é"]', digest_of("{}")

    link = Signer(KEY).link(before, content, body)

    text = b"llm-metering ledger link 1:" + before + hashlib.sha256(b"{}").digest()
    assert link == hmac.digest(KEY, text + content.encode(), "sha256")


def test_unusual_characters_are_signed_alike_however_sqlite_writes_them():
    """Its versions may escape them in one way or another; another character is another content."""
    ways = ['["\\u0008"]', '["\\b"]', '["\\u0009"]']

    links = [Signer(KEY).link(b"b" * 32, way, digest_of("")) for way in ways]

    assert links[0] == links[1] != links[2]


def test_a_ledger_without_a_key_is_not_signed(path):
    """Older libraries go on writing to it, and whoever looks is told that nothing can be found."""
    assert deliver(path).accepted
    assert (seals(path), read(path, "SELECT * FROM links")) == ([], [])
    assert read(path, "SELECT value FROM meta WHERE key = 'oldest_writer'") == [(1,)]
    found = verify(path)
    assert (found.is_intact, found.head, found.signed) == (True, None, 0)


@pytest.mark.parametrize("keys", [(), (OTHER,)], ids=["no key", "another key"])
@pytest.mark.parametrize("way", ["sink", "broker", "file", "prune"])
def test_a_writer_without_the_key_pauses(path, keys, way):
    """It waits for a person; what it holds is in the journal. An older library is kept out as well."""
    deliver(path, KEY)
    before = read(path, "SELECT * FROM events")
    reason = "the ledger is signed, " + (
        "with a key that ledger_keys has not here" if keys else "and ledger_keys is not set here"
    )

    if way == "sink":
        delivery = deliver(path, *keys)
        assert (delivery.hold, delivery.reason, delivery.accepted) == (True, reason, frozenset())
    else:
        with pytest.raises(_chain.UnavailableError, match=reason) as caught:
            insert(path, keys, way)
        assert caught.value.hold

    assert read(path, "SELECT * FROM events") == before
    assert read(path, "SELECT value FROM meta WHERE key = 'oldest_writer'") == [(5,)]
    assert verify(path, KEY).is_intact


def insert(path: Path, keys: tuple[bytes, ...], way: str) -> None:
    if way == "broker":
        stretch = Stretch(
            partition=0,
            expected=None,
            next_offset=1,
            bookmark=None,
            events=((0, encode(make_event())),),
            omissions=(),
        )
        with closing(Intake(path, keys=keys)) as intake:
            intake.commit("c", "t", [stretch], now=NOON)
    elif way == "file":
        with staging(path, dry_run=False, keys=keys) as stage:
            stage.add([(0, encode(make_event()))])
            assert stage.take(stage.compare().new)
    else:
        Ledger(path, keys=keys).prune(NOON + timedelta(seconds=1))


@pytest.mark.parametrize("way", ["broker", "file", "prune"])
def test_all_ways_in_sign(path, way):
    """Not the sink alone."""
    deliver(path, KEY)

    insert(path, (KEY,), way)

    found = verify(path, KEY)
    assert (found.is_intact, found.signed, found.pruned) == (
        (True, 3, 3) if way == "prune" else (True, 4, 0)
    )


def test_a_dry_run_needs_no_key(path):
    """It writes nothing."""
    deliver(path, KEY)
    with staging(path, dry_run=True) as stage:
        stage.add([(0, encode(make_event()))])
        assert stage.compare().new == 1


def test_what_was_there_before_is_signed_first(path, monkeypatch):
    """In pieces, wherever one before was broken off; what comes meanwhile is signed behind it."""
    monkeypatch.setattr(_chain, "PIECE", 4)
    deliver(path, number=10)

    handle = Ledger(path, keys=[KEY])._handle
    with closing(handle), handle.writing() as connection:
        assert handle.chain.catch_up(connection)
    half = verify(path, KEY)
    deliver(path, KEY)

    assert (half.signed, [each.kind for each in half.tampering]) == (4, ["unsigned"])
    assert [(seal.kind, seal.place) for seal in seals(path)] == [("begin", 10), ("signed", 10)]
    assert (verify(path, KEY).is_intact, verify(path, KEY).signed) == (True, 13)


def test_what_has_lost_its_signature_gets_no_new_one(path):
    """Else who removes them would have changes signed by whoever writes next."""
    deliver(path, number=5)
    deliver(path, KEY, number=1)
    change(path, "DELETE FROM links WHERE place > 2", "UPDATE events SET total_tokens = 1")

    deliver(path, KEY, number=1)

    assert {each.kind for each in verify(path, KEY).tampering} == {"changed", "inserted"}
    assert verify(path, KEY).signed == 1


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def test_a_key_is_replaced_by_putting_a_new_one_in_front(path):
    """Who knows both goes on with the new one, in whichever order; who knows the old one alone waits."""
    deliver(path, KEY)
    deliver(path, NEW, KEY)
    deliver(path, KEY, NEW)

    assert deliver(path, KEY).hold
    assert deliver(path, NEW).accepted
    assert [seal.key_id for seal in seals(path)] == [Signer(KEY).id, Signer(NEW).id]
    found = verify(path, KEY, NEW)
    assert (found.is_intact, found.signed, found.head.key_id) == (True, 12, Signer(NEW).id)
    with pytest.raises(verifying.LedgerError, match=Signer(KEY).id):
        verify(path, NEW)


def test_a_key_that_was_replaced_opens_nothing(path):
    """Who got hold of it can neither go on with it nor change what it has signed."""
    deliver(path, KEY)
    deliver(path, NEW, KEY)
    old = Signer(KEY)
    *_, last = seals(path)
    [(content, payload)] = read(path, f"SELECT {CONTENT}, payload FROM events WHERE rowid = 6")
    [(before,)] = read(path, "SELECT mac FROM links WHERE place = 5")
    with closing(sqlite3.connect(path)) as connection:
        back = old.seal(last, Seal(3, "begin", last.time, 5, before, None, old.id))
        connection.execute(_chain._SEAL, back)
        link = old.link(before, content, digest_of(payload))
        connection.execute("UPDATE links SET mac = ? WHERE place = 6", (link,))
        connection.commit()

    assert [(each.kind, each.first) for each in verify(path, KEY, NEW).tampering] == [("seal", 3)]


def test_many_processes_make_one_chain(path):
    """Each signs what the others have inserted before it."""
    script = (
        "import sys; from pathlib import Path; from tests.ledger.test_signing import deliver, KEY\n"
        "for _ in range(20):\n"
        "    while not deliver(Path(sys.argv[1]), KEY, number=5).accepted: pass"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, path]) for _ in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4

    found = verify(path, KEY)
    assert (found.is_intact, found.signed) == (True, 400)
    assert len(seals(path)) == 1


def test_no_key_is_in_the_file(path):
    """Nor in what is shown of who signs."""
    deliver(path, KEY)

    assert KEY not in path.read_bytes()
    assert "k" * 32 not in repr((Signer(KEY), _chain.Chain([KEY])))
