"""Settings: where they come from, which one wins, what is refused and what is shown."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from llm_metering.errors import ConfigurationError, MeteringError, SubjectError
from llm_metering.settings import (
    CONFIG_VARIABLE,
    VARIABLES,
    Settings,
    load_settings,
    mask_url,
    require_destination,
    unknown_variables,
)

KEY = "om_very_secret_123"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch, tmp_path):
    """No setting from the machine the tests run on; an empty working folder."""
    for name in list(os.environ):
        if name.startswith(("LLM_METERING_", "OPENMETER_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return monkeypatch


@pytest.fixture
def write_file(tmp_path):
    """Write `llm-metering.toml` into the working folder."""

    def write(text, encoding="utf-8"):
        path = tmp_path / "work" / "llm-metering.toml"
        path.write_bytes(text.encode(encoding))
        return path

    return write


def test_with_nothing_set_the_defaults_hold(tmp_path):
    """Without any setting usage goes to the ledger in the platform's data folder."""
    settings = load_settings()

    assert settings == Settings(home=tmp_path / "data" / "llm-metering")
    assert settings.describe() == (
        ("home", str(tmp_path / "data" / "llm-metering"), "default"),
        ("sinks", (), "default"),
        ("source", "llm-metering", "default"),
        ("subject", None, "default"),
        ("ledger", True, "default"),
        ("ledger_keys", "not set", "default"),
        ("durability", "process", "default"),
        ("backlog_bytes", 1 << 30, "default"),
        ("retention_hours", 72, "default"),
        ("retention_bytes", 268435456, "default"),
        ("event_type", None, "default"),
        ("event_id", "call", "default"),
        ("openmeter_token", "not set", "default"),
        ("webhook_secret", "not set", "default"),
        ("webhook_token", "not set", "default"),
        ("kafka_username", "not set", "default"),
        ("kafka_password", "not set", "default"),
        ("kafka_properties", None, "default"),
        ("stripe_api_key", "not set", "default"),
        ("lago_api_key", "not set", "default"),
        ("tokenizer_download", False, "default"),
        ("taps", True, "default"),
        ("request_stream_usage", "auto", "default"),
        ("silent_call_hours", 1, "default"),
        ("on_missing_subject", "unattributed", "default"),
        ("subject_keys", ("llm_metering_subject", "subject"), "default"),
        ("subject_from_metadata", "trust", "default"),
        ("subject_token_secrets", "not set", "default"),
        ("metadata_dimensions", (), "default"),
        ("prices", (), "default"),
        ("price_source", "auto", "default"),
        ("plans", None, "default"),
        ("limits", "auto", "default"),
        ("enforce", False, "default"),
        ("entitlements", None, "default"),
        ("default_grant", None, "default"),
        ("requests_per_minute", None, "default"),
        ("tokens_per_minute", None, "default"),
        ("reserved_output_tokens", 1024, "default"),
        ("limit_deadline", 0.5, "default"),
        ("on_limit_store_error", "allow", "default"),
        ("limit_slices", False, "default"),
        ("balance_thresholds", ("80", "100"), "default"),
        ("features", (), "default"),
        ("meters", (), "default"),
    )


VALUES = {
    "home": ("/srv/one", Path("/srv/one")),
    "sinks": ("openmeter+https://om.example", ("openmeter+https://om.example",)),
    "source": ("shop", "shop"),
    "subject": ("acme", "acme"),
    "ledger": ("off", False),
    "durability": ("power", "power"),
    "backlog_bytes": ("2097152", 2 << 20),
    "retention_hours": ("1.5", 1.5),
    "retention_bytes": ("1000000", 1000000),
    "event_type": ("com.example.prompt", "com.example.prompt"),
    "event_id": ("response", "response"),
    "kafka_properties": ("/etc/client.properties", "/etc/client.properties"),
    "tokenizer_download": ("on", True),
    "taps": ("off", False),
    "on_missing_subject": ("raise", "raise"),
    "subject_keys": ("payer, user_id", ("payer", "user_id")),
    "subject_from_metadata": ("ignore", "ignore"),
    "metadata_dimensions": ("thread_id langgraph_node", ("thread_id", "langgraph_node")),
    "prices": ("/etc/a.toml /etc/b.toml", (Path("/etc/a.toml"), Path("/etc/b.toml"))),
    "price_source": ("off", "off"),
    "plans": ("/etc/plans.toml", Path("/etc/plans.toml")),
    "request_stream_usage": ("on", True),
    "silent_call_hours": ("0.5", 0.5),
}
OTHERS = {
    "ledger": "on",
    "durability": "process",
    "backlog_bytes": "1048576",
    "retention_hours": "12",
    "retention_bytes": "5",
    "event_id": "call",
    "kafka_properties": "/etc/other.properties",
    "tokenizer_download": "off",
    "taps": "on",
    "on_missing_subject": "warn",
    "subject_from_metadata": "trust",
    "price_source": "genai-prices",
    "request_stream_usage": "auto",
    "silent_call_hours": "24",
}
"""Other values, where not every string is one."""
FILE = """
home = "/srv/file"
sinks = []
source = "file"
subject = "file"
ledger = true
event_type = "file"
event_id = "call"
kafka_properties = "/etc/file.properties"
tokenizer_download = false
taps = true
on_missing_subject = "unattributed"
subject_keys = ["file"]
subject_from_metadata = "trust"
metadata_dimensions = []
prices = ["prices.toml"]
price_source = "auto"
plans = "plans.toml"
request_stream_usage = false
silent_call_hours = 2
"""


@pytest.mark.parametrize("name", VALUES)
def test_an_argument_wins_over_environment_and_file(name, monkeypatch, write_file):
    """What the caller says holds, whatever else is set."""
    write_file(FILE)
    monkeypatch.setenv(VARIABLES[name][0], OTHERS.get(name, "/environment"))

    settings = load_settings(**{name: VALUES[name][0]})

    assert getattr(settings, name) == VALUES[name][1]
    assert settings.origins[name] == "argument"


@pytest.mark.parametrize("name", VALUES)
def test_the_environment_wins_over_the_file(name, monkeypatch, write_file):
    """A deployment can override what the file in its image says."""
    write_file(FILE)
    monkeypatch.setenv(VARIABLES[name][0], VALUES[name][0])

    settings = load_settings(**{name: None})

    assert getattr(settings, name) == VALUES[name][1]
    assert settings.origins[name] == f"environment {VARIABLES[name][0]}"


@pytest.mark.parametrize("name", VALUES)
def test_the_file_wins_over_the_default(name, write_file):
    """A file in the working folder is read."""
    path = write_file(f'{name} = "{VALUES[name][0]}"')

    settings = load_settings()

    assert getattr(settings, name) == VALUES[name][1]
    assert settings.origins == {**dict.fromkeys(VARIABLES, "default"), name: f"file {path}"}


def test_the_file_may_stand_elsewhere(monkeypatch, tmp_path, write_file):
    """LLM_METERING_CONFIG names the file; then the one in the working folder is not read."""
    write_file('source = "here"')
    elsewhere = tmp_path / "elsewhere.toml"
    elsewhere.write_text('home = "usage"')
    monkeypatch.setenv(CONFIG_VARIABLE, str(elsewhere))

    settings = load_settings()

    assert settings.source == "llm-metering"
    # Relative to the file, so that it means the same from every working folder.
    assert settings.home == tmp_path / "usage"


def test_price_files_are_beside_the_file_that_names_them(monkeypatch, tmp_path):
    """A relative path is relative to the file; in the environment to the working folder."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "mine.toml").write_text('prices = ["prices.toml", "/srv/more.toml"]')
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "etc" / "mine.toml"))

    assert load_settings().prices == (tmp_path / "etc" / "prices.toml", Path("/srv/more.toml"))
    monkeypatch.setenv("LLM_METERING_PRICES", "prices.toml")
    assert load_settings().prices == (tmp_path / "work" / "prices.toml",)


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path):
    """`~` means what it means in a shell, in the home and in the name of the file."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.toml").write_text('home = "~/usage"')
    monkeypatch.setenv(CONFIG_VARIABLE, "~/mine.toml")

    assert load_settings().home == tmp_path / "usage"


def test_the_home_does_not_move_with_the_working_folder(monkeypatch, tmp_path):
    """A relative home is made absolute when it is read."""
    settings = load_settings(home="usage")
    monkeypatch.chdir("/")

    assert settings.home == tmp_path / "work" / "usage"


@pytest.mark.parametrize(
    ("given", "sinks"),
    [
        pytest.param("", (), id="empty"),
        pytest.param(" , \n", (), id="only separators"),
        pytest.param("memory:", ("memory:",), id="one"),
        pytest.param("memory: jsonl:///a", ("memory:", "jsonl:///a"), id="spaces"),
        pytest.param("memory:,jsonl:///a,", ("memory:", "jsonl:///a"), id="commas"),
        pytest.param("\n  memory:,\n  jsonl:///a\n", ("memory:", "jsonl:///a"), id="lines"),
        pytest.param(
            "kafka://a:9092,b:9092/usage", ("kafka://a:9092,b:9092/usage",), id="brokers alone"
        ),
        pytest.param(
            "kafka://a,b,c/t,memory:,cloudevents+https://x/y,kafka://d:1,e:2/u?name=other,",
            (
                "kafka://a,b,c/t",
                "memory:",
                "cloudevents+https://x/y",
                "kafka://d:1,e:2/u?name=other",
            ),
            id="brokers beside others, by commas",
        ),
        pytest.param(
            "jsonl:///a kafka://a:9092,b:9092/usage memory:",
            ("jsonl:///a", "kafka://a:9092,b:9092/usage", "memory:"),
            id="brokers beside others, by spaces",
        ),
        pytest.param(
            ",\n kafka://[::1]:9092,[::2]:9092/t,\n\n acme+https://x/?a=1&b=2 ,\n,memory:\n,",
            ("kafka://[::1]:9092,[::2]:9092/t", "acme+https://x/?a=1&b=2", "memory:"),
            id="brokers beside others, by lines with commas",
        ),
        pytest.param(
            "jsonl:///a,b/usage,1.jsonl,memory:",
            ("jsonl:///a,b/usage,1.jsonl", "memory:"),
            id="commas in a path",
        ),
        pytest.param(
            "memory:\tjsonl:///a\r\nmemory:", ("memory:", "jsonl:///a", "memory:"), id="tabs"
        ),
    ],
)
def test_sinks_in_one_string(given, sinks, monkeypatch, write_file):
    """URLs in one string are parted by spaces, commas or line breaks, wherever it stands."""
    monkeypatch.setenv("LLM_METERING_SINKS", given)
    assert load_settings().sinks == sinks

    monkeypatch.delenv("LLM_METERING_SINKS")
    write_file(f'sinks = """{given}"""')
    assert load_settings().sinks == sinks
    assert load_settings(sinks=given).sinks == sinks


def test_an_empty_list_of_sinks_is_a_value(monkeypatch):
    """`sinks=()` means the ledger alone; only `None` leaves it to the environment."""
    monkeypatch.setenv("LLM_METERING_SINKS", "memory:")

    assert load_settings(sinks=()).sinks == ()
    assert load_settings(sinks=None).sinks == ("memory:",)
    assert load_settings(sinks=["a:", " b: "]).sinks == ("a:", "b:")


@pytest.mark.parametrize("name", ["ledger", "tokenizer_download", "taps"])
@pytest.mark.parametrize(
    ("word", "value"),
    [
        *[(word, True) for word in ("on", "ON", "true", "1", " on ")],
        *[(word, False) for word in ("off", "False", "0")],
    ],
)
def test_a_switch_understands_all_the_usual_words(name, word, value, monkeypatch):
    """A deployment says on or off in its own way."""
    monkeypatch.setenv(VARIABLES[name][0], word)

    assert getattr(load_settings(), name) is value


@pytest.mark.parametrize("name", ["ledger", "tokenizer_download", "taps"])
def test_a_switch_is_a_boolean_where_there_are_booleans(name, write_file):
    """Python and TOML have true and false of their own."""
    write_file(f"{name} = false")

    assert getattr(load_settings(), name) is False
    assert getattr(load_settings(**{name: True}), name) is True


@pytest.mark.parametrize("variable", VARIABLES["openmeter_token"])
def test_the_key_comes_from_either_variable(variable, monkeypatch):
    """Both names in use are read, and a line break at the end of a mounted secret is no harm."""
    monkeypatch.setenv(variable, f"{KEY}\n")

    settings = load_settings()

    assert settings.openmeter_token == KEY
    assert settings.origins["openmeter_token"] == f"environment {variable}"


def test_an_empty_key_is_no_key(monkeypatch):
    """A secret that a deployment does not have may arrive as an empty variable."""
    monkeypatch.setenv("OPENMETER_API_KEY", "")
    assert load_settings().openmeter_token is None

    monkeypatch.setenv("OPENMETER_TOKEN", KEY)
    assert load_settings().openmeter_token == KEY


def test_two_different_keys_are_refused(monkeypatch):
    """Usage must not go to one of two accounts by chance; the same key twice is fine."""
    monkeypatch.setenv("OPENMETER_API_KEY", KEY)
    monkeypatch.setenv("OPENMETER_TOKEN", KEY)
    assert load_settings().openmeter_token == KEY

    monkeypatch.setenv("OPENMETER_TOKEN", "another")
    with pytest.raises(ConfigurationError, match="OPENMETER_API_KEY and OPENMETER_TOKEN") as caught:
        load_settings()
    assert KEY not in str(caught.value)
    assert load_settings(openmeter_token="given").openmeter_token == "given"


BAD_ARGUMENTS = [
    pytest.param("home", 5, id="home that is a number"),
    pytest.param("home", "", id="empty home"),
    pytest.param("home", b"/srv", id="home in bytes"),
    pytest.param("home", "a\0b", id="home with a null"),
    pytest.param("home", "~nobody-of-this-name/x", id="home of nobody"),
    pytest.param("sinks", 5, id="sinks that are a number"),
    pytest.param("sinks", [5], id="a sink that is a number"),
    pytest.param("sinks", ["a:", " "], id="an empty sink"),
    pytest.param("sinks", {"a:": 1}, id="sinks that are a table"),
    pytest.param("source", "", id="empty source"),
    pytest.param("source", 5, id="source that is a number"),
    pytest.param("source", "my app", id="source with a space"),
    pytest.param("source", ":app", id="source with a colon in front"),
    pytest.param("source", "1app:x", id="source with a broken scheme"),
    pytest.param("source", "app%zz", id="source with a broken escape"),
    pytest.param("source", "größe", id="source beyond ASCII"),
    pytest.param("source", "app\n", id="source with a line break"),
    pytest.param("subject", "", id="empty subject"),
    pytest.param("subject", " ", id="blank subject"),
    pytest.param("subject", 5, id="subject that is a number"),
    pytest.param("subject", "\udcff", id="subject that is no UTF-8"),
    pytest.param("ledger", "maybe", id="ledger that is neither"),
    pytest.param("ledger", 1, id="ledger that is a number"),
    pytest.param("ledger", "", id="empty ledger"),
    pytest.param("durability", "disk", id="durability that there is none of"),
    pytest.param("durability", True, id="durability that is a switch"),
    pytest.param("backlog_bytes", "lots", id="bound that is no number"),
    pytest.param("backlog_bytes", "-1", id="bound below nothing"),
    pytest.param("backlog_bytes", True, id="bound that is a switch"),
    pytest.param("backlog_bytes", 1000, id="bound too small for segments"),
    pytest.param("retention_hours", "long", id="hours that are no number"),
    pytest.param("retention_hours", "-1", id="negative hours"),
    pytest.param("retention_hours", "nan", id="hours that are not a number"),
    pytest.param("retention_hours", "inf", id="hours without end"),
    pytest.param("retention_hours", True, id="hours that are a switch"),
    pytest.param("retention_bytes", "1.5", id="bytes in parts"),
    pytest.param("retention_bytes", "256MiB", id="bytes with a unit"),
    pytest.param("retention_bytes", -1, id="negative bytes"),
    pytest.param("retention_bytes", True, id="bytes that are a switch"),
    pytest.param("event_type", "", id="empty type"),
    pytest.param("event_type", 5, id="type that is a number"),
    pytest.param("event_type", "llm usage", id="type with a space"),
    pytest.param("event_type", "usage\n", id="type with a line break"),
    pytest.param("event_type", "x" * 201, id="type without end"),
    pytest.param("event_type", "\udcff", id="type that is no UTF-8"),
    pytest.param("event_id", "", id="empty id"),
    pytest.param("event_id", "uuid", id="id of another kind"),
    pytest.param("event_id", ["response"], id="ids in a list"),
    pytest.param("tokenizer_download", "maybe", id="download that is neither"),
    pytest.param("tokenizer_download", 1, id="download that is a number"),
    pytest.param("request_stream_usage", "sometimes", id="asking that is neither"),
    pytest.param("silent_call_hours", "soon", id="silence that is no number"),
    pytest.param("silent_call_hours", 0, id="no silence at all"),
    pytest.param("silent_call_hours", "-1", id="negative silence"),
    pytest.param("silent_call_hours", "inf", id="silence without end"),
    pytest.param("openmeter_token", "", id="empty key"),
    pytest.param("openmeter_token", 5, id="key that is a number"),
    pytest.param("openmeter_token", "a\nb", id="key with a line break"),
    pytest.param("openmeter_token", "a b", id="key with a space"),
    pytest.param("openmeter_token", "ключ", id="key beyond ASCII"),
    pytest.param("on_missing_subject", "ignore", id="payer that is nobody's wish"),
    pytest.param("on_missing_subject", True, id="payer that is a switch"),
    pytest.param("subject_from_metadata", "yes", id="metadata that is neither"),
    pytest.param("subject_keys", [], id="no key of metadata"),
    pytest.param("subject_keys", ", ", id="separators for keys"),
    pytest.param("subject_keys", 5, id="keys that are a number"),
    pytest.param("subject_keys", ["payer", ""], id="one empty key of metadata"),
    pytest.param("subject_keys", {"payer": "x"}, id="keys in a mapping"),
    pytest.param("subject_keys", b"payer", id="keys in bytes"),
    pytest.param("metadata_dimensions", "", id="empty dimensions"),
    pytest.param("metadata_dimensions", ["thread_id", 5], id="dimension that is a number"),
    pytest.param("metadata_dimensions", "thread_id,model", id="dimension that hides a field"),
    pytest.param("metadata_dimensions", ["a\ud800"], id="dimension with half a character"),
    pytest.param("prices", 5, id="prices that are a number"),
    pytest.param("prices", ["a.toml", ""], id="one empty path of prices"),
    pytest.param("prices", {"a.toml": 1}, id="prices in a mapping"),
    pytest.param("price_source", "litellm", id="prices from elsewhere"),
    pytest.param("plans", 5, id="plans that are a number"),
    pytest.param("plans", "a\0", id="plans in no file"),
    pytest.param("subject_token_secrets", "x" * 31, id="short secret"),
    pytest.param("subject_token_secrets", "", id="empty secret"),
    pytest.param("subject_token_secrets", [], id="no secret"),
    pytest.param("subject_token_secrets", 5, id="secret that is a number"),
    pytest.param("subject_token_secrets", {"x" * 32: 1}, id="secrets in a mapping"),
    pytest.param("subject_token_secrets", ["x" * 32, "y" * 31], id="one short secret"),
    pytest.param("ledger_keys", "x" * 31, id="short key of the ledger"),
    pytest.param("ledger_keys", [], id="no key of the ledger"),
]


@pytest.mark.parametrize(("name", "value"), BAD_ARGUMENTS)
def test_a_value_that_cannot_be_used_is_refused(name, value):
    """The error is ours, names the setting and says where the value came from."""
    with pytest.raises(MeteringError) as caught:
        load_settings(**{name: value})

    assert isinstance(caught.value, SubjectError if name == "subject" else ConfigurationError)
    assert str(caught.value).startswith(f"{name}: ")
    if value != "~nobody-of-this-name/x":
        assert str(caught.value).endswith("(argument)")


@pytest.mark.parametrize("name", [name for name in VALUES if name != "sinks"])
def test_an_empty_variable_is_refused_by_name(name, monkeypatch):
    """An empty variable is a mistake of the deployment, not a wish for the default."""
    monkeypatch.setenv(VARIABLES[name][0], "")

    with pytest.raises(MeteringError, match=rf"{name}: .*\(environment {VARIABLES[name][0]}\)"):
        load_settings()


@pytest.mark.parametrize(
    "source",
    ["shop", "shop.eu-1", "https://example.org/a?b#c", "urn:x:y", "/a:b", "host:80", "a%20b"],
)
def test_every_uri_reference_can_be_a_source(source):
    """Whatever CloudEvents allows as a source is taken."""
    assert load_settings(source=source).source == source


def test_a_secret_is_never_repeated():
    """Neither an error nor a `repr` nor the description holds any part of a secret."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(openmeter_token=f"{KEY}\n{KEY}")
    settings = load_settings(
        openmeter_token=KEY, sinks=[f"openmeter+https://u:{KEY}@om.example?token={KEY}"]
    )

    shown = f"{caught.value} {settings!r} {settings.describe()}"
    assert "om_very" not in shown
    assert ("openmeter_token", "set", "argument") in settings.describe()
    assert "openmeter+https://***@om.example?token=***" in shown
    with pytest.raises(ConfigurationError) as caught:
        load_settings(sinks=[f"https://{KEY}", 5])
    assert KEY not in str(caught.value)


def test_secrets_of_tokens_are_shown_to_nobody(monkeypatch):
    """Of one or several, given as text or bytes, no part is in an error, a `repr` or `config`."""
    secrets = "first-" * 6, "other-" * 6
    monkeypatch.setenv("LLM_METERING_SUBJECT_TOKEN_SECRETS", ",".join(secrets) + "\n")
    settings = load_settings(subject_from_metadata="signed")
    given = load_settings(subject_token_secrets=b"first-" * 6)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(subject_token_secrets=[secrets[0], "first"])

    shown = f"{caught.value} {settings!r} {settings.describe()} {given!r}"
    assert settings.subject_token_secrets == tuple(each.encode() for each in secrets)
    assert given.subject_token_secrets == (secrets[0].encode(),)
    assert "first" not in shown
    assert "other" not in shown
    rows = {row.setting: row for row in settings.describe()}
    assert rows["subject_token_secrets"] == (
        "subject_token_secrets",
        "set",
        "environment LLM_METERING_SUBJECT_TOKEN_SECRETS",
    )


def test_signed_subjects_need_a_secret():
    """Without one every token would be refused, and every call billed to nobody."""
    with pytest.raises(ConfigurationError, match="LLM_METERING_SUBJECT_TOKEN_SECRETS"):
        load_settings(subject_from_metadata="signed")


def test_an_empty_secret_of_the_deployment_is_none(monkeypatch):
    """Deployments pass on the secrets they do not have as empty variables."""
    monkeypatch.setenv("LLM_METERING_SUBJECT_TOKEN_SECRETS", " ")

    assert load_settings().subject_token_secrets == ()


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("subject_token_secrets", "SUBJECT_TOKEN_SECRETS"),
        ("llm_metering_subject_token_secrets", "SUBJECT_TOKEN_SECRETS"),
        ("ledger_keys", "LEDGER_KEYS"),
    ],
)
def test_a_secret_of_tokens_in_the_file_is_refused(name, variable, write_file):
    """Such a file ends up in version control."""
    write_file(f'{name} = "{KEY * 3}"')

    with pytest.raises(ConfigurationError, match=f"LLM_METERING_{variable} in the") as no:
        load_settings()
    assert KEY not in str(no.value)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        pytest.param("openmeter+https://om.example/base", None, id="nothing to hide"),
        pytest.param("openmeter+http://127.0.0.1:8888?name=x", None, id="a port"),
        pytest.param("openmeter+http://[::1]:8888/", None, id="IPv6"),
        pytest.param("kafka://b1:9092,b2:9092/topic", None, id="two brokers"),
        pytest.param("jsonl:///var/usage.jsonl", None, id="a path"),
        pytest.param("memory:", None, id="no host"),
        pytest.param("x://key@host/p", "x://***@host/p", id="a user"),
        pytest.param("x://a:b@c@host/p", "x://***@host/p", id="a password with an at sign"),
        pytest.param("x://a:b/c@host", "x://***@host", id="a password with a slash"),
        pytest.param("x:a:b@host", "***@host", id="no slashes"),
        pytest.param("key:@host", "***@host", id="a key for a scheme"),
        pytest.param("x://a:b", "x://***", id="cut before the host"),
        pytest.param("x://h/?API_KEY=b&name=c", "x://h/?API_KEY=***&name=c", id="a parameter"),
    ],
)
def test_urls_are_shown_without_secrets(url, masked):
    """Userinfo and parameters with the name of a secret are masked; the rest stays readable."""
    assert mask_url(url) == (masked or url)


def test_an_unknown_setting_is_refused():
    """A misspelt keyword is an error that names what there is."""
    with pytest.raises(ConfigurationError, match=r"sink: there is no such setting; .*sinks"):
        load_settings(sink="memory:")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "source = ?\n", r"config: .*llm-metering.toml .*line 1, column 10", id="broken"
        ),
        pytest.param('sink = "x"', r"sink: .*llm-metering.toml .*sinks", id="unknown key"),
        pytest.param('[llm-metering]\nhome = "x"', r"llm-metering: .*no such setting", id="table"),
        pytest.param(f'stripe_api_key = "{KEY}"', r"STRIPE_API_KEY in the env", id="Stripe's key"),
        pytest.param(f'lago_api_key = "{KEY}"', r"LAGO_API_KEY in the env", id="Lago's key"),
        pytest.param(f'openmeter_token = "{KEY}"', r"OPENMETER_API_KEY in the env", id="a secret"),
        pytest.param(f'OPENMETER_API_KEY = "{KEY}"', r"OPENMETER_API_KEY in the", id="by variable"),
        pytest.param("subject = 5", r"subject: .*\(file .*llm-metering.toml\)", id="a number"),
        pytest.param("home = []", r"home: .*\(file .*llm-metering.toml\)", id="a list"),
        pytest.param("sinks = [1]", r"sinks: .*\(file .*llm-metering.toml\)", id="a number in it"),
        pytest.param("ledger = 1", r"ledger: .*\(file .*llm-metering.toml\)", id="no switch"),
        pytest.param("event_id = true", r"event_id: .*\(file .*llm-metering.toml\)", id="no id"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(text, message, write_file):
    """The error names the file, and the position or the key, and no secret."""
    write_file(text)

    with pytest.raises(MeteringError, match=message) as caught:
        load_settings()

    assert KEY not in str(caught.value)


def test_a_file_in_another_encoding_is_refused(write_file):
    """TOML is UTF-8; the error says on which line it is not."""
    write_file('ledger = true\nsubject = "käse"', encoding="latin-1")

    with pytest.raises(ConfigurationError, match=r"not UTF-8 \(at line 2\)"):
        load_settings()


def test_a_byte_order_mark_is_no_harm(write_file):
    """Some editors put one in front of UTF-8."""
    write_file('subject = "käse"', encoding="utf-8-sig")

    assert load_settings().subject == "käse"


def test_a_named_file_must_be_there(monkeypatch, tmp_path):
    """Who names a file means it: a missing one, a folder and an empty name are errors."""
    for named, message in [("/not/there.toml", "does not exist"), ("", "empty"), ("/", "cannot")]:
        monkeypatch.setenv(CONFIG_VARIABLE, named)
        with pytest.raises(ConfigurationError, match=f"config: .*{message}"):
            load_settings()

    # The documented way to have none.
    monkeypatch.setenv(CONFIG_VARIABLE, "/dev/null")
    assert load_settings().origins["source"] == "default"


def test_a_working_folder_that_is_gone(monkeypatch, tmp_path):
    """A process that outlives its folder is metered all the same, if its home is absolute."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    assert load_settings(home="/srv/usage").home == Path("/srv/usage")
    with pytest.raises(ConfigurationError, match="home: the working folder is gone"):
        load_settings(home="usage")


def test_usage_must_go_somewhere():
    """Without ledger and sinks the error says what to do; a sink of any kind is enough."""
    nowhere = load_settings(ledger=False)

    with pytest.raises(ConfigurationError, match=r"sinks: .*LLM_METERING_SINKS"):
        require_destination(nowhere)
    require_destination(nowhere, [object()])
    require_destination(load_settings(ledger=False, sinks="memory:"))
    require_destination(load_settings())


def test_misspelt_variables_are_found(monkeypatch):
    """What looks like a setting and is none can be shown."""
    monkeypatch.setenv("LLM_METERING_SINK", "memory:")
    monkeypatch.setenv("LLM_METERING_HOME", "/srv")

    assert unknown_variables() == ("LLM_METERING_SINK",)


def test_settings_load_without_heavy_imports(tmp_path):
    """With a home and no file neither platformdirs nor the TOML parser is imported."""
    code = (
        "import sys; from llm_metering.settings import load_settings; load_settings(home='/srv');"
        "print(sorted({'platformdirs', 'tomllib', 'httpx', 'sqlite3', 'rich', 'pydantic'}"
        " & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )

    assert done.stdout.strip() == "[]"


def test_the_settings_page_names_everything():
    """The reference names each setting and each variable, and no variable that is not read."""
    page = (Path(__file__).parents[1] / "docs" / "reference" / "settings.md").read_text("utf-8")
    variables = {CONFIG_VARIABLE, *(name for names in VARIABLES.values() for name in names)}

    for name in [*VARIABLES, *variables]:
        assert f"`{name}`" in page, name
    assert (
        set(re.findall(r"LLM_METERING_[A-Z_]*[A-Z]|OPENMETER_[A-Z_]+|\b[A-Z]+_API_KEY", page))
        == variables
    )
