"""`llm-metering keys`: keys that a server takes, made and taken back by the person who runs it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from llm_metering.access import ApiKeys
from llm_metering.errors import ApiKeyError


def audit(home):
    """The lines of the audit log."""
    return [
        json.loads(line)
        for file in sorted((home / "audit").iterdir())
        for line in file.read_text("ascii").splitlines()
    ]


def created(run, *options):
    """What `create --format json` prints."""
    return json.loads(run("keys", "create", "a key", *options, "--format", "json").stdout)


def test_a_key_is_shown_once_and_does_what_it_was_made_for(run, home):
    """Its text is the first line, alone, so that a script can take it; no list has it."""
    result = run(
        "keys", "create", "batch", "--scope", "ingest", "--scope", "read", "--source", "app",
        "--subject", "acme", "--rate", "60", "--expires", "90d",
    )  # fmt: skip
    text = result.stdout.splitlines()[0]

    key = ApiKeys(home).recognise(text)
    assert (key.name, key.scopes) == ("batch", {"ingest", "read"})
    assert (key.sources, key.subjects, key.requests_per_minute) == ({"app"}, {"acme"}, 60)
    left = key.expires_at - datetime.now(UTC)
    assert timedelta(days=89, hours=23) < left <= timedelta(days=90)
    assert "nobody can show it again" in result.stdout
    secret = text.split("_", 2)[2]
    for shown in (run("keys", "list"), run("keys", "list", "--format", "json")):
        assert secret not in shown.stdout
        assert key.id in shown.stdout
    assert secret not in (home / "audit").joinpath(f"{datetime.now(UTC):%Y-%m}.jsonl").read_text()


def test_a_key_for_signed_subjects_is_made_and_replaced(run, home):
    """The one in its place is one, too."""
    made = run("keys", "create", "theirs", "--scope", "ingest", "--signed-subjects")
    assert "for signed subjects" in made.stdout
    key = ApiKeys(home).recognise(made.stdout.splitlines()[0])
    again = run("keys", "rotate", key.id)
    assert ApiKeys(home).recognise(again.stdout.splitlines()[0]).signed_subjects


def test_a_replaced_key_holds_for_the_overlap_alone(run, home):
    """Without one it ends with the command."""
    keys = ApiKeys(home)
    old = created(run, "--scope", "read")
    new = json.loads(run("keys", "rotate", old["id"], "--format", "json").stdout)
    overlapping = json.loads(
        run("keys", "rotate", new["id"], "--overlap", "24h", "--format", "json").stdout
    )

    with pytest.raises(ApiKeyError, match="expired"):
        keys.recognise(old["key"])
    assert keys.recognise(new["key"]).successor == overlapping["id"]
    assert keys.recognise(overlapping["key"]).scopes == {"read"}


def test_a_key_that_is_taken_back_holds_no_more(run, home):
    """It is listed with `--all`; to take it back again is no error of a script, and says so."""
    made = created(run, "--scope", "admin")

    assert run("keys", "revoke", made["id"]).stdout == f"{made['id']} is taken back\n"
    again = run("keys", "revoke", made["id"], "--format", "json")
    assert again.exit_code == 1

    assert json.loads(again.stdout) == {"home": str(home), "id": made["id"], "revoked": False}
    with pytest.raises(ApiKeyError, match="revoked"):
        ApiKeys(home).recognise(made["key"])
    assert run("keys", "list").stdout == "There are no keys; 1 hold no more (--all)\n"
    assert "revoked" in run("keys", "list", "--all").stdout


def test_what_was_done_to_keys_is_in_the_audit_log(run, home):
    """Who, when, what and to which key; never its text."""
    made = created(run, "--scope", "ingest", "--source", "app")
    new = json.loads(run("keys", "rotate", made["id"], "--format", "json").stdout)
    run("keys", "revoke", new["id"])
    run("keys", "revoke", new["id"])

    lines = audit(home)
    assert [(line["action"], line["key"]) for line in lines] == [
        ("key.create", made["id"]),
        ("key.rotate", made["id"]),
        ("key.revoke", new["id"]),
    ]
    assert lines[0] | {"time": "", "actor": ""} == {
        "time": "",
        "action": "key.create",
        "actor": "",
        "key": made["id"],
        "scopes": ["ingest"],
        "sources": ["app"],
    }
    assert all(line["actor"].startswith("user:") for line in lines)
    assert oct((home / "audit").stat().st_mode & 0o777) == "0o700"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["create", "x"], "--scope", id="no scope"),
        pytest.param(["create", "x", "--scope", "write"], "'ingest'", id="no such scope"),
        pytest.param(
            ["create", "x", "--scope", "admin", "--subject", "acme"],
            "admin cannot be bound",
            id="an admin of one subject",
        ),
        pytest.param(
            ["create", "x", "--scope", "read", "--expires", "2020-01-01"], "over", id="over already"
        ),
        pytest.param(
            ["create", "x", "--scope", "read", "--expires", "soon"], "no moment", id="no moment"
        ),
        pytest.param(["create", "x", "--scope", "read", "--rate", "0"], "at least 1", id="rate"),
        pytest.param(["rotate", "nobody"], "there is no API key nobody", id="rotate nobody"),
        pytest.param(["revoke", "nobody"], "there is no API key nobody", id="revoke nobody"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(run, home, arguments, said):
    """And nothing is made or changed by it."""
    result = run("keys", *arguments)

    assert result.exit_code == 2
    assert said in result.output
    assert ApiKeys(home).all() == []
    assert not (home / "audit").exists()
