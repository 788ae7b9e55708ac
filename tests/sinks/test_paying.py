"""The file that says whose subjects are whose."""

from __future__ import annotations

import os

import pytest

from llm_metering.errors import SinkURLError
from llm_metering.sinks.paying import Payers, PayersError, payers_file

TABLE = "stripe_customers"


def test_it_is_read_again_when_it_changes(tmp_path):
    """A new customer counts at once, also where the file was replaced by one of the same size."""
    path = tmp_path / "customers.toml"
    path.write_text(f'[{TABLE}]\nacme = "cus_1"\n')
    payers = Payers(path, TABLE)
    assert payers.current() == {"acme": "cus_1"}
    assert payers.current() is payers.current()

    other = tmp_path / "new.toml"
    other.write_text(f'[{TABLE}]\nacme = "cus_2"\n')
    stamp = path.stat().st_mtime_ns
    os.utime(other, ns=(stamp, stamp))
    other.replace(path)

    assert payers.current() == {"acme": "cus_2"}


def test_subjects_of_any_kind_are_keys(tmp_path):
    """In quotes, as TOML has it; other tables are somebody else's."""
    path = tmp_path / "customers.toml"
    path.write_text(f'[{TABLE}]\n"a.b c@d" = "cus_1"\n"株" = "x"\n[other]\ny = 1\n', "utf-8-sig")

    assert Payers(path, TABLE).current() == {"a.b c@d": "cus_1", "株": "x"}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(b"[stripe_customers\n", "is no TOML: ", id="no TOML"),
        pytest.param(b"\xff", "is not in UTF-8", id="no UTF-8"),
        pytest.param(b"acme = 'cus_1'\n", "has no table [stripe_customers]", id="no table"),
        pytest.param(b"stripe_customers = 1\n", "has no table [stripe_customers]", id="a number"),
        pytest.param(
            b"acme = 'x'\n[stripe_customers]\n# a comment\n'acme' = 7\n",
            ":4: 'acme' wants a name",
            id="a value that is none",
        ),
        pytest.param(
            b"[stripe_customers]\nx = 'y'\n\nacme = ' '\n", ":4: 'acme' wants", id="blank"
        ),
        pytest.param(b"[stripe_customers]\na.b = 'cus_1'\n", ":2: 'a' wants", id="a dotted key"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, content, problem):
    """The file, the line and what is wanted; and it is read again once it was mended."""
    path = tmp_path / "customers.toml"
    path.write_bytes(content)
    payers = Payers(path, TABLE)

    for _ in range(2):
        with pytest.raises(PayersError) as caught:
            payers.current()
        assert str(caught.value).startswith(str(path))
        assert problem in str(caught.value)

    path.write_bytes(b"[stripe_customers]\nacme = 'cus_1'\n")
    assert payers.current() == {"acme": "cus_1"}


def test_a_file_that_is_away_is_no_empty_one(tmp_path):
    """Nobody is billed for what was known a moment ago, and nobody's events die."""
    path = tmp_path / "customers.toml"
    path.write_text(f'[{TABLE}]\nacme = "cus_1"\n')
    payers = Payers(path, TABLE)
    payers.current()
    path.rename(tmp_path / "aside")

    with pytest.raises(PayersError, match="cannot be read: No such file"):
        payers.current()

    (tmp_path / "aside").rename(path)
    assert payers.current() == {"acme": "cus_1"}


def test_no_file_knows_nobody():
    """Then the subjects are the payers."""
    assert Payers(None, TABLE).current() == {}
    assert payers_file("customers", None) is None


def test_a_path_in_the_users_home_is_absolute(monkeypatch):
    """`~/` is resolved; what hangs on the working folder is refused."""
    monkeypatch.setenv("HOME", "/home/ann")

    assert str(payers_file("customers", "~/who.toml")) == "/home/ann/who.toml"
    for path in ("who.toml", "./who.toml", "", "/a\0b"):
        with pytest.raises(SinkURLError, match="absolute path"):
            payers_file("customers", path)
