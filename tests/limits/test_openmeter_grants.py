"""Balances that follow the entitlements of an OpenMeter server, over real HTTP."""

from __future__ import annotations

import threading
from contextlib import closing
from decimal import Decimal

import pytest

from llm_metering import Meter
from llm_metering.cli.limits.common import opened
from llm_metering.errors import (
    BalanceExceeded,
    ConfigurationError,
    InvalidArgumentError,
    LimitStoreError,
)
from llm_metering.limits import (
    FEATURES,
    AccountKey,
    DefaultGrant,
    Feature,
    Hold,
    Limits,
    PostgresStore,
    Settlement,
    SQLiteStore,
)
from llm_metering.limits.entitlements import EntitlementServer
from llm_metering.limits.openmeter import OpenMeterGrants
from llm_metering.limits.openmeter_url import grants_from_url
from llm_metering.limits.stores import sqlite
from llm_metering.meters import METERS
from llm_metering.settings import load_settings
from llm_metering.testing import FakeClock, OpenMeterServer
from llm_metering.testing.faults import Hang, Refuse, Reset, Slow
from llm_metering.token_usage import TokenUsage

KEY = AccountKey("acme", "tokens")
NAMES = {"tokens": "llm_tokens"}


@pytest.fixture
def clock(monkeypatch):
    """The time of the store, of the server, and of who asks."""
    clock = FakeClock(1_800_000_000.0)
    monkeypatch.setattr(sqlite, "_now", lambda: int(clock() * 1_000_000))
    return clock


@pytest.fixture
def server(clock):
    with OpenMeterServer(
        meters=[METERS["tokens_total"].to_dict()], token="a-secret", clock=clock
    ) as server:
        server.entitle("acme", "llm_tokens", meter="tokens_total", amount=1000)
        yield server


@pytest.fixture
def notes():
    """What was counted."""
    return []


@pytest.fixture
def store(tmp_path):
    with closing(SQLiteStore(tmp_path / "limits.db", FEATURES)) as store:
        yield store


@pytest.fixture
def made():
    """Makes what asks, and closes it behind the test."""
    all_made = []

    def made(server, store, *, token="a-secret", api="v1", limit=10.0, **more):
        asks = EntitlementServer(server.url, token=token, api=api, limit=limit)
        grants = OpenMeterGrants(store, asks, more.pop("features", FEATURES), **more)
        all_made.append(grants)
        return grants

    yield made
    for each in all_made:
        each.close()


@pytest.fixture
def grants(made, server, store, clock, notes):
    return made(server, store, feature_keys=NAMES, clock=clock, note=notes.append)


@pytest.fixture
def limits(store, grants):
    return Limits(store, source="tests", grants=grants)


def use(server, tokens, subject="acme"):
    """Something is used that the server hears of."""
    server.preload(
        [
            {
                "id": str(len(server.events)),
                "source": "tests",
                "type": "llm.usage",
                "subject": subject,
                "data": {"total_tokens": tokens},
            }
        ]
    )


def burn(store, tokens, id="1"):
    """Something is used that the account hears of."""
    store.settle([Settlement(source="tests", id=id, amounts={KEY: tokens})])


def later(clock, grants, limits, seconds=30):
    """Time goes by, and what is asked then is answered."""
    clock.advance(seconds)
    limits.terms("acme")
    grants.close()


@pytest.mark.parametrize("api", ["v1", "v2"])
def test_the_first_call_of_a_subject_finds_what_it_has(made, server, store, clock, api):
    """Nobody granted it anything here."""
    use(server, 300)
    grants = made(server, store, api=api, feature_keys=NAMES, clock=clock)
    limits = Limits(store, source="tests", grants=grants)

    assert limits.terms("acme").features == {"tokens"}
    balance = limits.balance("acme")
    assert (balance.available, balance.used, balance.granted) == (700, 300, 1000)
    assert server.violations == []


def test_a_server_is_asked_once_in_a_while(server, clock, grants, limits):
    """Many calls are one question, and the one behind it waits for no answer."""
    for _ in range(50):
        limits.terms("acme")
        limits.balance("acme")
    asked = [each.path.rpartition("/")[2] for each in server.received]
    # Only its definition says whether the limit is soft.
    assert asked == ["value", "entitlements"]

    use(server, 100)
    clock.advance(29)
    assert limits.balance("acme").available == 1000
    clock.advance(1)
    server.order(Hang(), to="list")
    assert limits.balance("acme").available == 1000
    assert server.wait_until(lambda: server.hanging == 1)
    limits.terms("acme")
    server.release()
    grants.close()
    assert limits.balance("acme").available == 900
    assert len(server.received) == 3


def test_who_was_away_for_a_while_waits_for_an_answer(server, clock, limits):
    """The last one is older than what would be asked for between two calls."""
    limits.terms("acme")
    server.withdraw("acme", "llm_tokens")
    clock.advance(60)
    with pytest.raises(BalanceExceeded):
        limits.reserve("acme", 1)


def test_what_was_burnt_here_and_is_not_counted_there_is_gone(server, store, clock, grants, limits):
    """What is on its way for up to three minutes counts twice rather than not at all."""
    limits.terms("acme")
    clock.advance(300)
    burn(store, 400)
    later(clock, grants, limits)
    assert limits.balance("acme").available == 600

    use(server, 400)
    later(clock, grants, limits)
    assert limits.balance("acme").available == 200
    later(clock, grants, limits, 180)
    assert limits.balance("acme").available == 600


def test_what_is_reserved_stays_reserved(server, store, clock, grants, limits):
    """An answer changes what is left, and never what others hold of it."""
    limits.reserve("acme", 800, expires_in=9000)
    use(server, 500)
    later(clock, grants, limits)
    assert store.read([KEY])[KEY].reserved == 800
    assert limits.balance("acme").available <= 0
    with pytest.raises(BalanceExceeded):
        limits.reserve("acme", 1)


def test_reserving_by_hand_asks_as_well(limits):
    """The first thing that a subject does may be that."""
    limits.reserve("acme", 1000)
    with pytest.raises(BalanceExceeded):
        limits.reserve("acme", 1)


def test_who_has_no_entitlement_is_asked_for_once_in_a_while(server, clock, grants, limits):
    """And has no account, until it has one."""
    for _ in range(5):
        assert limits.terms("globex").features == frozenset()
    assert len(server.received) == 1

    server.entitle("globex", "llm_tokens", meter="tokens_total", amount=5)
    clock.advance(30)
    limits.terms("globex")
    grants.close()
    assert limits.balance("globex").available == 5


@pytest.mark.parametrize("status", [404, 412])
def test_an_entitlement_that_is_taken_away_leaves_nothing(server, clock, grants, limits, status):
    """Neither of what was left, nor of a limit that was soft."""
    server.entitle("acme", "llm_tokens", kind="boolean")
    limits.reserve("acme", 10**9)
    server.order(Refuse(status), to="list")
    later(clock, grants, limits)
    with pytest.raises(BalanceExceeded):
        limits.reserve("acme", 1)


def test_who_openmeter_knows_nothing_of_keeps_what_was_granted_here(store, clock, grants):
    """Until it does: then it is granted there, and no more here."""
    given = DefaultGrant(amount=7, feature="tokens")
    limits = Limits(store, source="tests", grants=grants, default_grant=given)
    assert limits.terms("globex").features == {"tokens"}
    assert limits.balance("globex").available == 7
    clock.advance(30)
    limits.terms("globex")
    grants.close()
    assert limits.balance("globex").available == 7

    limits.terms("acme")
    for change in (lambda: limits.grant("acme", 5), lambda: limits.void_grant("acme", "remote")):
        with pytest.raises(InvalidArgumentError, match="granted elsewhere"):
            change()
    assert limits.balance("acme").available == 1000


@pytest.mark.parametrize("api", ["v1", "v2"])
def test_a_soft_limit_refuses_nobody(made, server, store, clock, api):
    """Whether something is left or not."""
    server.entitle("acme", "llm_tokens", meter="tokens_total", amount=100, soft_limit=True)
    grants = made(server, store, api=api, feature_keys=NAMES, clock=clock)
    limits = Limits(store, source="tests", grants=grants)
    limits.reserve("acme", 5000)
    use(server, 130)
    later(clock, grants, limits)
    limits.reserve("acme", 5000)
    assert limits.balance("acme").overage == 30


@pytest.mark.parametrize("kind", ["boolean", "static"])
def test_a_feature_that_is_there_or_not_is_all_there(server, limits, kind):
    """No number is counted down."""
    server.entitle("acme", "llm_tokens", kind=kind)
    limits.reserve("acme", 10**9)


def test_overage_is_paid_by_the_next_grant(server, clock, grants, limits):
    use(server, 1200)
    assert (limits.balance("acme").available, limits.balance("acme").overage) == (0, 200)
    server.entitle("acme", "llm_tokens", meter="tokens_total", amount=1500)
    later(clock, grants, limits)
    assert (limits.balance("acme").available, limits.balance("acme").overage) == (300, 0)


def test_money_is_rounded_against_the_subject(made, store, clock):
    """A server computes with floats; what they end in is nobody's."""
    meter = {"slug": "cost", "eventType": "cost", "aggregation": "SUM", "valueProperty": "$.usd"}
    with OpenMeterServer(meters=[meter], clock=clock) as server:
        server.entitle("acme", "llm_cost", meter="cost", amount=0.1 + 0.2)
        server.entitle("rich", "llm_cost", meter="cost", amount=1e300)
        grants = made(server, store, feature_keys={"money": "llm_cost"}, clock=clock)
        limits = Limits(store, source="tests", grants=grants)
        assert limits.balance("acme", "money").available == Decimal("0.3")
        assert limits.balance("rich", "money").available == 10**12
        limits.reserve("rich", 10**11, "money")


FAULTS = [
    pytest.param(Refuse(500), "status_500", id="500"),
    pytest.param(Refuse(401), "status_401", id="401"),
    pytest.param(Refuse(429, retry_after=20), "status_429", id="429"),
    pytest.param(Reset(), "unreachable", id="reset"),
    pytest.param(Refuse(200, body=b"<html>"), "unreadable", id="no JSON"),
    pytest.param(Refuse(200, body=b"[]"), "unreadable", id="no object"),
    pytest.param(Refuse(200, body=b'{"hasAccess": 1}'), "unreadable", id="no value"),
    pytest.param(Refuse(200, body=b'{"hasAccess": true, "balance": NaN}'), "unreadable", id="NaN"),
    pytest.param(Refuse(200, body=b'{"hasAccess": true, "balance": "5"}'), "unreadable", id="text"),
]


@pytest.mark.parametrize(("fault", "reason"), FAULTS)
def test_the_last_answer_holds_for_five_minutes(
    server, store, clock, grants, limits, notes, fault, reason
):
    """Then nobody knows what is left, until the server says so again."""
    limits.terms("acme")
    server.order(fault, to="list", times=None)
    for _ in range(5):
        later(clock, grants, limits, 50)
        assert limits.balance("acme").available == 1000
        grants.close()
    assert set(notes) == {reason}

    clock.advance(50)
    for _ in range(3):
        with pytest.raises(LimitStoreError, match="OpenMeter server of entitlements"):
            limits.terms("acme")
        with pytest.raises(LimitStoreError):
            limits.balance("acme")

    server.clear()
    use(server, 1)
    clock.advance(30)
    assert limits.balance("acme").available == 999


def test_a_server_that_was_never_there_is_asked_every_few_seconds(
    server, clock, grants, limits, notes
):
    """Each call in between is told at once, whoever's it is."""
    server.down()
    for subject in ("acme", "globex", "acme"):
        with pytest.raises(LimitStoreError, match="refuses connections"):
            limits.terms(subject)
    server.up()
    with pytest.raises(LimitStoreError):
        limits.terms("acme")
    assert server.received == []
    clock.advance(5)
    assert limits.terms("acme").features == {"tokens"}
    assert set(notes) == {"unreachable"}


def test_a_key_that_is_not_taken_is_not_shown_for_each_subject(server, clock, grants, limits):
    """The next ones would hear the same."""
    server.order(Refuse(401), to="list", times=None)
    for subject in ("acme", "globex", "initech"):
        with pytest.raises(LimitStoreError, match="does not take the key"):
            limits.terms(subject)
    assert len(server.received) == 1

    server.clear()
    clock.advance(5)
    assert limits.terms("acme").features == {"tokens"}


def test_a_server_that_is_too_slow_is_not_waited_for(made, server, store, clock, notes):
    """A request ends by itself."""
    server.order(Slow(30), to="list")
    grants = made(server, store, limit=0.2, feature_keys=NAMES, clock=clock, note=notes.append)
    with pytest.raises(LimitStoreError, match=r"no answer within 0\.2 s"):
        grants.refresh("acme", ["tokens"])
    assert notes == ["unreachable"]


def test_another_process_may_have_heard_of_it(made, server, store, clock, grants, limits):
    """What it wrote down holds as long as if it had been asked for here."""
    limits.terms("acme")
    server.down()
    clock.advance(100)
    begun_later = made(server, store, feature_keys=NAMES, clock=clock)
    begun_later.refresh("acme", ["tokens"])
    clock.advance(199)
    begun_later.refresh("acme", ["tokens"])
    clock.advance(1)
    begun_later.close()
    with pytest.raises(LimitStoreError):
        begun_later.refresh("acme", ["tokens"])


def test_many_calls_at_once_are_one_question(server, grants, limits):
    """Those that know nothing yet wait for the same answer."""
    server.order(Hang(), to="list")
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(limits.terms("acme").features))
        for _ in range(16)
    ]
    for each in threads:
        each.start()
    assert server.wait_until(lambda: server.hanging == 1)
    server.release()
    for each in threads:
        each.join()
    assert found == [{"tokens"}] * 16
    assert len(server.received) == 2


def test_of_two_answers_the_one_that_was_asked_for_last_stays(made, server, store, clock, grants):
    """A process that is slow to write down what it heard takes nothing back."""
    server.order(Hang(), to="list")
    slow = threading.Thread(target=lambda: grants.refresh("acme", ["tokens"]))
    slow.start()
    assert server.wait_until(lambda: server.hanging == 1)
    clock.advance(10)
    server.entitle("acme", "llm_tokens", meter="tokens_total", amount=50)
    made(server, store, feature_keys=NAMES, clock=clock).refresh("acme", ["tokens"])
    server.entitle("acme", "llm_tokens", meter="tokens_total", amount=1000)
    server.release()
    slow.join()
    assert store.read([KEY])[KEY].account.left == 50


def test_names_that_a_path_would_take_for_something_else(server, clock, grants, limits):
    """They go as they are, or not at all."""
    name = "a/../b?c=d#é"
    server.entitle(name, "llm_tokens", meter="tokens_total", amount=5)
    assert limits.balance(name).available == 5
    asked = len(server.received)
    assert limits.balance("..").available == 0
    assert len(server.received) == asked
    assert server.violations == []


def test_a_key_goes_nowhere_but_to_the_server(made, server, store, clock):
    """And an error does not hold it."""
    grants = made(server, store, token="another-secret", feature_keys=NAMES, clock=clock)
    with pytest.raises(LimitStoreError, match="does not take the key") as caught:
        grants.refresh("acme", ["tokens"])
    assert "another-secret" not in f"{caught.value}{grants!r}"


def test_only_what_is_named_is_asked_for(made, server, store, clock):
    """And of that, what is wanted."""
    features = {**FEATURES, "chat": Feature(key="chat", unit="tokens")}
    server.entitle("acme", "tokens", meter="tokens_total", amount=5)
    grants = made(server, store, features=features, clock=clock)
    grants.refresh("acme", ["tokens"])
    values = [each.path for each in server.received if each.path.endswith("/value")]
    assert values == ["/api/v1/subjects/acme/entitlements/tokens/value"]


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"feature_keys": {"fun": "fun"}}, "one of tokens, credits, money, got 'fun'"),
        ({"lag": 721}, "lag is from 0 to 720"),
        ({"fresh": 0}, "fresh is more than 0"),
        ({"stale": 10}, "up to stale"),
    ],
)
def test_what_makes_no_sense_is_refused(made, server, store, more, named):
    with pytest.raises(InvalidArgumentError, match=named):
        made(server, store, **more)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_many_threads_and_stores_keep_one_account_in_step(made, server, tmp_path, request, kind):
    """While others burn it and reserve of it: not one of these is lost to an answer."""
    if kind == "sqlite":
        stores = [SQLiteStore(tmp_path / "shared.db", FEATURES) for _ in range(3)]
    else:
        url = request.getfixturevalue("databases").new()
        stores = [PostgresStore(url, FEATURES) for _ in range(3)]
    server.entitle("acme", "llm_tokens", meter="tokens_total", amount=100_000)
    for store in stores:
        made(server, store, feature_keys=NAMES).refresh("acme", ["tokens"])
    failures = []

    def work(number):
        store = stores[number % 3]
        asks = made(server, store, feature_keys=NAMES, fresh=0.001, stale=1000)
        try:
            for each in range(20):
                asks.refresh("acme", ["tokens"])
                id = f"{number}-{each}"
                store.reserve(Hold(id=id, subject="acme", amounts={KEY: 10}, seconds=600))
                store.settle([Settlement(source="tests", id=id, reservation=id, amounts={KEY: 7})])
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert failures == []
    made(server, stores[0], feature_keys=NAMES).refresh("acme", ["tokens"])
    held = stores[0].read([KEY])[KEY]
    assert (held.account.left, held.account.usage, held.reserved) == (99_160, 840, 0)
    for store in stores:
        store.close()


def test_settings_name_the_server(server, tmp_path):
    """A meter holds calls to what OpenMeter says, and sends it what they used."""
    server.entitle("acme", "llm_tokens", meter="tokens_total", amount=150)
    with Meter(
        home=tmp_path,
        sinks=server.sink_url,
        limits="on",
        openmeter_token="a-secret",
        entitlements=f"{server.sink_url}?features=tokens:llm_tokens&lag=60",
    ) as meter:
        assert meter.balance("acme").available == 150
        meter.record(TokenUsage(input_tokens=100, output_tokens=20), "acme", model="gpt-5")
        assert meter.balance("acme").available == 30
        with pytest.raises(BalanceExceeded):
            meter.reserve("acme", 31)
        assert meter.flush()
        assert server.total("$.total_tokens") == 120
        assert meter.statistics()["unanswered_entitlements"] == {}


def test_what_was_not_answered_is_in_the_status(server, tmp_path):
    server.order(Refuse(500), to="list", times=None)
    with Meter(
        home=tmp_path,
        sinks=[],
        limits="on",
        openmeter_token="a-secret",
        entitlements=f"{server.sink_url}?features=tokens:llm_tokens",
    ) as meter:
        with pytest.raises(LimitStoreError, match=r"does not answer \(500\)"):
            meter.reserve("acme", 1)
        assert meter.statistics()["unanswered_entitlements"] == {"status_500": 1}


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("https://openmeter.cloud", r"openmeter\+https://… is wanted"),
        ("openmeter+https://user:hush@host", "takes no user or password"),
        ("openmeter+https://host?key=hush", "takes the parameters api, features"),
        ("openmeter+https://host?api=v3", "api must be one of v1, v2"),
        ("openmeter+https://host?features=fun", "one of tokens, credits, money"),
        ("openmeter+https://host?features=tokens:", "features is a list"),
        ("openmeter+https://host?features=tokens,tokens", "features is a list"),
        ("openmeter+https://host?lag=900", "lag is from 0"),
        ("openmeter+https://host?fresh=0", "fresh must be a whole number from 1"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(tmp_path, url, named):
    """By the name of the setting, without what may be a secret."""
    with pytest.raises(ConfigurationError, match=named) as caught:
        Meter(home=tmp_path, sinks=[], limits="on", entitlements=url)
    assert caught.value.setting == "entitlements"
    assert "hush" not in str(caught.value)


def test_features_of_a_url_may_have_the_same_keys(server, store):
    """One without a colon is called the same there."""
    server.entitle("acme", "tokens", meter="tokens_total", amount=3)
    url = f"{server.sink_url}?features=tokens, money:cost"
    with closing(grants_from_url(url, store, FEATURES, token=" a-secret\n")) as grants:
        grants.refresh("acme", FEATURES)
    assert store.read([KEY])[KEY].account.left == 3


def test_a_balance_in_the_terminal_is_openmeters(server, tmp_path):
    """The command asks as a call does, and leaves no connection behind."""
    settings = load_settings(
        home=tmp_path,
        limits="on",
        openmeter_token="a-secret",
        entitlements=f"{server.sink_url}?features=tokens:llm_tokens",
    )
    with opened(settings) as limiting:
        assert limiting.limits.balance("acme").available == 1000
    assert "llm-metering-entitlements" not in "".join(each.name for each in threading.enumerate())
