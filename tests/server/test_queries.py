"""What the server answers is what OpenMeter does, as far as the fake server knows."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_metering.server import questions as server_questions
from llm_metering.testing import OpenMeterServer

from .conftest import EVENTS

START = datetime(2026, 10, 24, 20, tzinfo=UTC)
"""Some hours before clocks are set back in Europe."""

AGGREGATIONS = ("SUM", "COUNT", "UNIQUE_COUNT", "AVG", "MIN", "MAX")
METERS = [
    {
        "slug": f"m_{aggregation.lower()}",
        "eventType": "work",
        "aggregation": aggregation,
        **({} if aggregation == "COUNT" else {"valueProperty": "$.n"}),
        "groupBy": {"model": "$.model", "zone": "$.place.zone"},
    }
    for aggregation in AGGREGATIONS
]


def work(number):
    """Events of three subjects, over two days; some lack a key, or the value."""
    data = {"n": number % 7, "model": ["gpt-5", "gpt-5-mini", "o3", ""][number % 4]}
    if number % 5 == 0:
        del data["model"]
    if number % 3 == 0:
        data["place"] = {"zone": f"eu-{number % 2}"}
    if number % 11 == 0:
        del data["n"]
    return {
        "specversion": "1.0",
        "id": f"work-{number}",
        "source": "app",
        "type": "work" if number % 13 else "other",
        "subject": ["acme", "globex", "Zoë & Söhne"][number % 3],
        "time": (START + number * timedelta(minutes=37)).isoformat(),
        "data": data,
    }


SENT = [work(number) for number in range(90)]

moments = st.integers(-1, 60).map(lambda hours: (START + timedelta(hours=hours)).isoformat())
texts = st.sampled_from(["gpt-5", "gpt-5-mini", "o3", "eu-0", "gpt%", "GPT_5%", "nowhere", "h"])
conditions = st.recursive(
    st.one_of(
        st.builds(
            lambda sign, text: {sign: text},
            st.sampled_from(
                ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$like", "$nlike", "$ilike", "$nilike"]
            ),
            texts,
        ),
        st.builds(lambda some: {"$in": some}, st.lists(texts, max_size=3)),
        st.builds(lambda some: {"$nin": some}, st.lists(texts, max_size=3)),
        st.just({"$lt": "\x01"}),
        st.just({}),
    ),
    lambda inner: st.builds(
        lambda sign, some: {sign: some},
        st.sampled_from(["$and", "$or"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=4,
)
keys = st.sampled_from(["model", "zone"])
asked = st.fixed_dictionaries(
    {},
    optional={
        "from": moments,
        "to": moments,
        "windowSize": st.sampled_from(["MINUTE", "HOUR", "DAY", "MONTH"]),
        "windowTimeZone": st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"]),
        "subject": st.lists(st.sampled_from(["acme", "Zoë & Söhne", "nobody"]), max_size=2),
        "groupBy": st.lists(keys | st.just("subject"), max_size=3),
        "clientId": st.just("me"),
        "wrong": st.just("parameter"),
    },
).filter(lambda each: "wrong" not in each or len(each) == 1)
filters = st.one_of(
    st.just({}),
    st.builds(
        lambda some: {"filterGroupBy": some},
        st.dictionaries(keys, st.lists(texts, max_size=2), max_size=2),
    ),
    st.builds(
        lambda some: {"advancedMeterGroupByFilters": some},
        st.dictionaries(keys, conditions, max_size=2),
    ),
)


def rows(response):
    """The rows of an answer, in an order of ours, or that there is none."""
    if response.status_code >= 400:
        return "refused" if response.status_code in (400, 501) else response.status_code
    document = response.json()
    found = [
        (
            datetime.fromisoformat(row["windowStart"]).timestamp(),
            datetime.fromisoformat(row["windowEnd"]).timestamp(),
            row["subject"],
            # ClickHouse has the empty text for what is not there.
            dict(sorted((key, value or "") for key, value in row["groupBy"].items())),
            pytest.approx(row["value"]),
        )
        for row in document["data"]
    ]
    bounds = [
        document.get(name) and datetime.fromisoformat(document[name]) for name in ("from", "to")
    ]
    return sorted(found, key=str), bounds, document.get("windowSize")


def plain(document, aggregation):
    """An answer without the row with which SQL answers a count of no events."""
    if not isinstance(document, tuple) or "COUNT" not in aggregation:
        return document
    found, bounds, size = document
    return [row for row in found if row[4] != 0], bounds, size


def query_of(parameters):
    """A question as the parameters of a GET; `None` if it cannot be one."""
    pairs = []
    for name, value in parameters.items():
        if name == "filterGroupBy":
            if any(len(values) != 1 for values in value.values()):
                return None
            pairs += [(f"filterGroupBy[{key}]", values[0]) for key, values in value.items()]
        elif name == "advancedMeterGroupByFilters":
            pairs.append((name, json.dumps(value)))
        elif isinstance(value, list):
            pairs += [(name, each) for each in value]
        else:
            pairs.append((name, value))
    return urlencode(pairs)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A function that asks our server and the fake one the same."""
    from fastapi.testclient import TestClient

    from llm_metering.meter import Meter
    from llm_metering.server import ServerOptions, create_app

    home = tmp_path_factory.mktemp("home")
    with (
        OpenMeterServer(meters=METERS) as fake,
        httpx.Client(base_url=fake.url, trust_env=False) as theirs,
        Meter(home, source="server") as meter,
        TestClient(
            create_app(meter, ServerOptions(keys_required=False)), base_url="http://localhost"
        ) as ours,
    ):
        for client in (ours, theirs):
            assert client.post(EVENTS, json=SENT).status_code == 204
        for each in METERS:
            assert ours.post("/api/v1/meters", json=each).status_code == 201
        assert ours.app.state.desk.sources.flush(30)

        def ask(path, parameters, method):
            if method == "POST":
                return [client.post(path, json=parameters) for client in (ours, theirs)]
            return [client.get(f"{path}?{query_of(parameters)}") for client in (ours, theirs)]

        yield ask


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    aggregation=st.sampled_from(AGGREGATIONS),
    asked=asked,
    filters=filters,
    method=st.sampled_from(["GET", "POST"]),
)
def test_our_answers_are_openmeters(both, aggregation, asked, filters, method):
    """By GET and by POST, whatever is asked, sensible or not."""
    parameters = asked | filters
    if method == "GET" and query_of(parameters) is None:
        method = "POST"
    if method == "GET" and asked.get("subject") == []:
        method = "POST"
    ours, theirs = both(f"/api/v1/meters/m_{aggregation.lower()}/query", parameters, method)
    assert plain(rows(ours), aggregation) == plain(rows(theirs), aggregation)


def test_conditions_of_some_kind_were_looked_up(both, monkeypatch):
    """Not all of them are lists: some are found out by looking at the values that there are."""
    looked = []
    values_of = server_questions.values_of
    monkeypatch.setattr(
        server_questions, "values_of", lambda *each: looked.append(each) or values_of(*each)
    )
    path = "/api/v1/meters/m_sum/query"
    for condition, count in (({"$in": ["o3"]}, 0), ({"$like": "gpt%"}, 1), ({"$ne": "o3"}, 2)):
        ours, theirs = both(path, {"advancedMeterGroupByFilters": {"model": condition}}, "POST")
        assert rows(ours) == rows(theirs)
        assert len(looked) == count


@pytest.mark.parametrize(
    "wrong",
    [
        "windowSize=WEEK",
        "windowTimeZone=Mars",
        "windowTimeZone=../../etc/passwd",
        "from=yesterday",
        "from=2026-11-21",
        "from=2026-11-21T00:00:00",
        "from=2026-11-21T00:00:00Z&to=2026-11-20T00:00:00Z",
        "from=2026-11-21T00:00:00Z&from=2026-11-20T00:00:00Z",
        "groupBy=colour",
        "groupBy=model'%20OR%201=1",
        "filterGroupBy[colour]=red",
        "filterGroupBy=%7B%27model%27:%20%27o3%27%7D",
        "filterCustomerId=1",
        "customer=1",
        "advancedMeterGroupByFilters=x",
        "advancedMeterGroupByFilters=[]",
        "advancedMeterGroupByFilters=%7B%22model%22:%7B%22$foo%22:%22x%22%7D%7D",
        "advancedMeterGroupByFilters=%7B%22model%22:" + "[" * 2000,
        "advancedMeterGroupByFilters=%7B%22model%22:%7B%22$eq%22:%22a%22%7D%7D&filterGroupBy[model]=a",
        "clientId=" + "x" * 37,
        "&".join("subject=a" for _ in range(101)),
    ],
    ids=lambda text: f"{text[:30]}…{text[-20:]}",
)
def test_a_question_that_makes_no_sense_is_refused(client, wrong):
    """Not passed over: a filter that is not applied makes a number wrong."""
    response = client.get(f"/api/v1/meters/tokens_total/query?{wrong}")
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"windowsize": "DAY"},
        {"subject": "acme"},
        {"groupBy": "model"},
        {"filterGroupBy": {"model": "a"}},
        [],
    ],
    ids=str,
)
def test_a_posted_question_that_makes_no_sense_is_refused(client, wrong):
    """Nor is a word passed over that is none."""
    assert client.post("/api/v1/meters/tokens_total/query", json=wrong).status_code == 400
    assert client.post("/api/v1/meters/tokens_total/query?x=1", json={}).status_code == 400
    assert client.post("/api/v1/meters/nowhere/query", json={}).status_code == 404
