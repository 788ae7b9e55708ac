"""Meters that people make over HTTP, and subjects that they tell of."""

from __future__ import annotations

import json
import re
import threading
from contextlib import closing

import pytest

from llm_metering.errors import CatalogueError
from llm_metering.server.known_subjects import KnownSubjects
from llm_metering.server.stored_meters import StoredMeters

from .conftest import EVENTS, audit, event

METERS = "/api/v1/meters"
SUBJECTS = "/api/v1/subjects"
ULID = re.compile("[0-7][0-9A-HJKMNP-TV-Z]{25}")

MINE = {
    "slug": "searches",
    "name": "Searches",
    "description": "What was looked for",
    "aggregation": "SUM",
    "eventType": "search",
    "valueProperty": "$.results",
    "groupBy": {"engine": "$.engine"},
    "eventFrom": "2026-11-21T00:00:00Z",
    "metadata": {"team": "search"},
}


def slugs(response):
    """Of the meters of a list."""
    assert response.status_code == 200
    return [meter["slug"] for meter in response.json()]


def test_a_meter_is_made_changed_and_deleted(client, home):
    """As it was asked for, with an id and times; and another process has it as well."""
    made = client.post(METERS, json=MINE)
    assert made.status_code == 201
    meter = made.json()
    assert ULID.fullmatch(meter["id"])
    assert {key: meter[key] for key in MINE} == MINE
    assert client.get(f"{METERS}/searches").json() == meter
    assert client.get(f"{METERS}/{meter['id']}").json() == meter
    with closing(StoredMeters(home, {})) as other:
        assert other.find("searches").id == meter["id"]

    change = {"name": "Looking", "groupBy": {"engine": "$.engine", "lang": "$.lang"}}
    changed = client.put(f"{METERS}/searches", json=change).json()
    assert changed["updatedAt"] > meter["updatedAt"] == meter["createdAt"]
    assert {key: changed[key] for key in change} == change
    # All that may be changed is replaced.
    assert not {"description", "metadata"} & changed.keys()
    assert (changed["valueProperty"], changed["eventFrom"]) == ("$.results", MINE["eventFrom"])

    assert client.delete(f"{METERS}/searches").status_code == 204
    assert client.delete(f"{METERS}/searches").status_code == 404
    assert client.put(f"{METERS}/searches", json={}).status_code == 404
    assert "searches" not in slugs(client.get(METERS))
    [gone] = [
        each
        for each in client.get(METERS, params={"includeDeleted": "true"}).json()
        if each["slug"] == "searches"
    ]
    assert gone["deletedAt"] >= gone["updatedAt"]
    # Its name is free.
    assert client.post(METERS, json=MINE).json()["id"] != meter["id"]
    done = [(line["action"], line["meter"]) for line in audit(home)]
    assert done == [
        ("meter.create", "searches"),
        ("meter.update", "searches"),
        ("meter.delete", "searches"),
        ("meter.create", "searches"),
    ]


def test_of_those_who_make_a_meter_at_once_one_does(client):
    """The others are told that there is one."""
    found = []

    def make():
        found.append(client.post(METERS, json=MINE).status_code)

    threads = [threading.Thread(target=make) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(found) == [201] + [409] * 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"slug": "tokens_total"}, 409),
        ({"slug": "Not One"}, 400),
        ({"slug": "a" * 65}, 400),
        ({"aggregation": "MEDIAN"}, 400),
        ({"valueProperty": None}, 400),
        ({"valueProperty": "results"}, 400),
        ({"valueProperty": "$.*"}, 400),
        ({"groupBy": {"a b": "$.a"}}, 400),
        ({"groupBy": {"subject": "$.a"}}, 400),
        ({"eventType": ""}, 400),
        ({"eventFrom": "2026-11-21"}, 400),
        ({"eventFrom": "2026-11-21T00:00:00"}, 400),
        ({"name": ""}, 400),
        ({"description": "x" * 1025}, 400),
        ({"metadata": {"a": 1}}, 400),
        ({"value_property": "$.a"}, 400),
        ({"name": "\ud800"}, 400),
    ],
    ids=str,
)
def test_a_meter_that_makes_no_sense_is_not_made(client, change, said):
    """Nor one whose name is taken by the settings."""
    body = json.dumps(MINE | change)
    response = client.post(METERS, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == said
    assert response.json()["detail"]
    assert "searches" not in slugs(client.get(METERS))


def test_a_meter_of_counts_takes_no_value(client):
    """OpenMeter passes over it, so clients send one."""
    made = client.post(METERS, json=MINE | {"aggregation": "COUNT"})
    assert (made.status_code, "valueProperty" in made.json()) == (201, False)


def test_meters_of_the_settings_are_changed_there(client):
    """They are listed, and stay as they are."""
    assert "tokens_total" in slugs(client.get(METERS))
    for method, body in (("PUT", {}), ("DELETE", None)):
        response = client.request(method, f"{METERS}/tokens_total", json=body)
        assert (response.status_code, "settings" in response.json()["detail"]) == (409, True)
    # What they cost in money OpenMeter has no words for.
    assert "cost_total" not in slugs(client.get(METERS))
    assert client.get(f"{METERS}/cost_total").status_code == 404


def test_meters_are_listed_in_pages_and_orders(client):
    """Each once, whatever the pages."""
    client.post(METERS, json=MINE)
    everything = slugs(client.get(METERS))
    assert everything == sorted(everything)
    pages = [slugs(client.get(METERS, params={"page": n, "pageSize": 3})) for n in (1, 2, 3, 4)]
    assert [slug for page in pages for slug in page] == everything
    backwards = client.get(METERS, params={"order": "DESC", "orderBy": "key"})
    assert slugs(backwards) == everything[::-1]
    assert slugs(client.get(METERS, params={"orderBy": "createdAt"}))[-1] == "searches"
    for wrong in (
        {"page": "0"},
        {"page": "x"},
        {"pageSize": "1001"},
        {"order": "UP"},
        {"orderBy": "colour"},
        {"includeDeleted": "perhaps"},
        {"sort": "key"},
    ):
        assert client.get(METERS, params=wrong).status_code == 400
    assert client.get(f"{METERS}?page=1&page=2").status_code == 400


def test_a_meter_counts_what_was_recorded_before_it_from_a_moment_on(client, living):
    """It is a question that is asked when it is asked."""
    sent = [
        event(
            str(day),
            type="search",
            time=f"2026-11-{day}T12:00:00Z",
            data={"results": day, "engine": "x" if day % 2 else "y"},
        )
        for day in (19, 20, 21, 22)
    ]
    assert client.post(EVENTS, json=sent).status_code == 204
    assert living[0].sources.flush(30)
    client.post(METERS, json=MINE)
    client.post(METERS, json={**MINE, "slug": "all", "eventFrom": None})

    def total(slug, **asked):
        rows = client.get(f"{METERS}/{slug}/query", params=asked).json()["data"]
        return sum(row["value"] for row in rows)

    assert (total("all"), total("searches")) == (82, 43)
    assert total("searches", **{"from": "2026-11-22T00:00:00Z"}) == 22
    assert total("searches", to="2026-11-20T00:00:00Z") == 0
    assert total("searches", **{"filterGroupBy[engine]": "x"}) == 21
    path = f"{METERS}/searches/group-by/engine/values"
    assert client.get(path).json() == ["x", "y"]
    assert client.get(path, params={"to": "2026-11-22T00:00:00Z"}).json() == ["x"]
    assert client.get(path, params={"to": "2026-11-20T00:00:00Z"}).json() == []
    assert client.get(f"{METERS}/searches/subjects").json() == ["acme"]
    assert (
        client.get(f"{METERS}/searches/subjects", params={"to": "2026-11-20T00:00:00Z"}).json()
        == []
    )
    assert client.get(f"{METERS}/searches/group-by/colour/values").status_code == 400
    assert (
        client.get(
            path, params={"from": "2026-11-22T00:00:00Z", "to": "2026-11-22T00:00:00Z"}
        ).status_code
        == 400
    )


def test_subjects_are_those_with_usage_and_those_told_of(client, living, home):
    """What was told stays beside the usage, and goes without it."""
    assert client.get(SUBJECTS).json() == []
    sent = [event("1"), event("2", subject="globex", time="2026-11-20T12:00:00Z")]
    assert client.post(EVENTS, json=sent).status_code == 204
    assert living[0].sources.flush(30)
    told = [
        {"key": "acme", "displayName": "Acme Ltd", "metadata": {"crm": {"id": 7}}},
        {"key": "new/one", "stripeCustomerId": "cus_1"},
    ]
    assert client.post(SUBJECTS, json=told).status_code == 200

    found = {each["key"]: each for each in client.get(SUBJECTS).json()}

    assert list(found) == ["acme", "globex", "new/one"]
    assert found["acme"]["displayName"] == "Acme Ltd"
    assert found["acme"]["metadata"] == {"crm": {"id": 7}}
    assert found["acme"]["createdAt"] == "2026-11-21T12:00:00Z"
    assert found["globex"]["createdAt"] == "2026-11-20T12:00:00Z"
    assert all(ULID.fullmatch(each["id"]) for each in found.values())
    assert client.get(f"{SUBJECTS}/globex").json() == found["globex"]
    assert client.get(f"{SUBJECTS}/{found['new/one']['id']}").json() == found["new/one"]
    with closing(KnownSubjects(home)) as other:
        assert other.all()["new/one"].stripe_customer_id == "cus_1"

    [again] = client.post(SUBJECTS, json=[{"key": "acme"}]).json()
    assert not {"displayName", "metadata"} & again.keys()
    assert client.delete(f"{SUBJECTS}/acme").status_code == 204
    assert client.delete(f"{SUBJECTS}/acme").status_code == 404
    assert client.delete(f"{SUBJECTS}/{found['new/one']['id']}").status_code == 204
    assert [each["key"] for each in client.get(SUBJECTS).json()] == ["acme", "globex"]
    assert client.get(f"{SUBJECTS}/nobody").status_code == 404
    assert [line["action"] for line in audit(home)] == ["subject.upsert"] * 2 + [
        "subject.delete"
    ] * 2


@pytest.mark.parametrize(
    "given",
    [
        {},
        [{}],
        [{"key": ""}],
        [{"key": " "}],
        [{"key": "a", "colour": "red"}],
        [{"key": "a" * 1100}],
    ],
    ids=str,
)
def test_what_is_no_subject_is_not_told_of(client, given):
    """And nothing is kept of the request."""
    assert client.post(SUBJECTS, json=given).status_code == 400
    assert client.get(SUBJECTS).json() == []


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_cannot_be_written_again_is_not_kept(client, number):
    """Python reads them in JSON, which has none of them; a list with one could never be answered."""
    content = f'[{{"key": "acme", "metadata": {{"a": [{number}]}}}}]'
    headers = {"Content-Type": "application/json"}
    assert client.post(SUBJECTS, content=content, headers=headers).status_code == 400
    assert client.get(SUBJECTS).json() == []


def test_a_catalogue_that_cannot_be_read_is_said_to_be(client, home):
    """503, and what is wrong with it stands in the log of the server alone."""
    client.post(METERS, json=MINE)
    client.app.state.desk.meters.close()
    (home / "catalogue.db").write_bytes(b"no database at all" * 100)
    for method, path, body in (
        ("GET", METERS, None),
        ("POST", METERS, {**MINE, "slug": "other"}),
        ("GET", f"{METERS}/tokens_total/query", None),
        ("GET", EVENTS, None),
    ):
        response = client.request(method, path, json=body)
        assert (response.status_code, str(home) in response.text) == (503, False)
    with closing(StoredMeters(home, {})) as meters, pytest.raises(CatalogueError):
        meters.all()


def test_a_server_without_a_ledger_says_so(serving):
    """Events go on to where it sends them; usage is asked for there."""
    with serving(sinks=["memory:"], ledger=False) as client:
        assert client.post(EVENTS, json=[event()]).status_code == 204
        for path in (EVENTS, f"{METERS}/tokens_total/query", SUBJECTS):
            response = client.get(path)
            assert (response.status_code, "no ledger" in response.text) == (501, True)
        assert "tokens_total" in slugs(client.get(METERS))
