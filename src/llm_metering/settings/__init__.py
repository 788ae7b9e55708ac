"""What a meter is told from outside: arguments, the environment, `llm-metering.toml`.

An argument wins over the environment, the environment over the file, the file over the default.
Nothing is guessed: a value that cannot be used is refused by name, with the place it came from.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from ..errors import ConfigurationError
from .checks import CHECKS
from .delivering import mask_url
from .found import Found, expand_path
from .values import DEFAULT_SOURCE, SECRETS, VARIABLES, SettingRow, Settings

__all__ = [
    "CONFIG_FILE",
    "CONFIG_VARIABLE",
    "DEFAULT_SOURCE",
    "VARIABLES",
    "SettingRow",
    "Settings",
    "load_settings",
    "mask_url",
    "require_destination",
    "unknown_variables",
]

CONFIG_FILE: Final = "llm-metering.toml"
CONFIG_VARIABLE: Final = "LLM_METERING_CONFIG"


def load_settings(**arguments: object) -> Settings:
    """Work out what holds: argument before environment before file before default.

    An argument that is `None` counts as not given. An empty `sinks` is a value: no sink beside
    the ledger, whatever the environment says.

    >>> load_settings(home="/var/lib/usage", sinks="").sinks
    ()

    Args:
        **arguments: Settings by name: `home`, `sinks` (URLs in one string or an iterable),
            `source`, `subject`, `ledger`, `durability`, `backlog_bytes`, `retention_hours`,
            `retention_bytes`,
            `event_type`, `event_id`, `openmeter_token`, `webhook_secret`, `webhook_token`,
            `kafka_username`, `kafka_password`, `kafka_properties`, `stripe_api_key`,
            `lago_api_key`, `tokenizer_download`, `taps`,
            `request_stream_usage`, `silent_call_hours`, `on_missing_subject`, `subject_keys`, `subject_from_metadata`,
            `subject_token_secrets`, `metadata_dimensions`, `prices` (paths in one string or an
            iterable), `price_source`, `plans` (a path), `limits`, `enforce`, `entitlements`,
            `default_grant`, `requests_per_minute`, `tokens_per_minute`, `reserved_output_tokens`, `limit_deadline`,
            `on_limit_store_error`, `limit_slices`, `balance_thresholds`, `features` (tables by key), `meters` (tables
            by slug, or an iterable of `MeterDefinition` and of dicts).

    Raises:
        ConfigurationError: If a setting is unknown or cannot be used, or the file cannot be read.
        SubjectError: If the subject is not a non-empty string.
    """
    for name in arguments:
        if name not in VARIABLES:
            raise ConfigurationError(
                name, f"there is no such setting; there are {', '.join(VARIABLES)}"
            )
    in_file = _read_file()
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name in VARIABLES:
        if arguments.get(name) is not None:
            found: Found | None = Found(arguments[name], "argument")
        else:
            found = _in_environment(name) or in_file.get(name)
        origins[name] = found.origin if found else "default"
        if found:
            values[name] = CHECKS[name](found)
    if "home" not in values:
        values["home"] = _default_home()
    own_meters = values.pop("meters", ())
    settings = Settings(**values, own_meters=own_meters, origins=origins)
    if settings.subject_from_metadata == "signed" and not settings.subject_token_secrets:
        # Every token would be refused, and every call billed to nobody.
        raise ConfigurationError(
            "subject_from_metadata",
            "'signed' needs a secret to check signatures with; set "
            f"{VARIABLES['subject_token_secrets'][0]} ({origins['subject_from_metadata']})",
        )
    return settings


def require_destination(settings: Settings, extra_sinks: Iterable[object] = ()) -> None:
    """Refuse settings under which no event would ever arrive anywhere.

    Args:
        settings: What holds.
        extra_sinks: Sinks that were given as objects.

    Raises:
        ConfigurationError: If the ledger is off and there is no sink.
    """
    if not settings.ledger and not settings.sinks and not list(extra_sinks):
        raise ConfigurationError(
            "sinks",
            "the ledger is off and no sink is configured, so usage would go nowhere; name a sink "
            "in LLM_METERING_SINKS, or switch the ledger on with LLM_METERING_LEDGER=on",
        )


def unknown_variables() -> tuple[str, ...]:
    """Variables of the environment that look like settings and are none, such as misspelt ones.

    They are no error: another version of this library may know them.
    """
    known = {CONFIG_VARIABLE, *(variable for names in VARIABLES.values() for variable in names)}
    return tuple(sorted({name for name in os.environ if name.startswith("LLM_METERING_")} - known))


def _in_environment(name: str) -> Found | None:
    found = [
        Found(os.environ[variable], f"environment {variable}")
        for variable in VARIABLES[name]
        # Deployments pass on the secrets they do not have as empty variables.
        if variable in os.environ and not (name in SECRETS and not os.environ[variable].strip())
    ]
    # Taking either would send usage to one of two accounts, perhaps the wrong one.
    if len({str(each.value).strip() for each in found}) > 1:
        raise ConfigurationError(
            name, f"{' and '.join(VARIABLES[name])} are both set and differ; unset one of them"
        )
    return found[0] if found else None


def _read_file() -> dict[str, Found]:
    named = os.environ.get(CONFIG_VARIABLE)
    if named is not None and not named.strip():
        raise ConfigurationError("config", f"{CONFIG_VARIABLE} is empty; unset it or name a file")
    path = Path(CONFIG_FILE) if named is None else expand_path(named, "config")
    try:
        path = path.absolute()
        content = path.read_bytes()
    except FileNotFoundError:
        if named is None:
            return {}
        message = f"{CONFIG_VARIABLE} names {path}, which does not exist"
        raise ConfigurationError("config", message) from None
    except OSError as error:
        raise ConfigurationError("config", f"cannot read {path}: {error.strerror}") from error
    return {
        name: Found(value, f"file {path}", path.parent)
        for name, value in _parse(content, path).items()
    }


def _parse(content: bytes, path: Path) -> dict[str, Any]:
    # Imported here, since most processes have no such file and would pay for it all the same.
    import tomllib

    try:
        # Editors on Windows put a byte order mark in front, which TOML does not know.
        table = tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigurationError("config", f"{path} is not UTF-8 (at line {line})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError("config", f"{path} is not valid TOML: {error}") from error
    for name in table:
        for secret in SECRETS:
            if name == secret or name.upper() in VARIABLES[secret]:
                raise ConfigurationError(
                    name,
                    f"{path} holds a secret, and such a file ends up in version control; "
                    f"take it out and set {VARIABLES[secret][0]} in the environment",
                )
        if name not in VARIABLES:
            known = ", ".join(each for each in VARIABLES if each not in SECRETS)
            message = f"{path} sets it, but there is no such setting; there are {known}"
            raise ConfigurationError(name, message)
    return table


def _default_home() -> Path:
    # Imported here, so that a process that names its home does not pay for it.
    import platformdirs

    return platformdirs.user_data_path("llm-metering").absolute()
