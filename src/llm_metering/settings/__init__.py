"""What a meter is told from outside: arguments, the environment, `llm-metering.toml`.

An argument wins over the environment, the environment over the file, the file over the default.
Nothing is guessed: a value that cannot be used is refused by name, with the place it came from.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from ..errors import ConfigurationError
from .checks import (
    CHECKS,
    DEFAULT_BACKLOG_BYTES,
    DEFAULT_DURABILITY,
    DEFAULT_EVENT_ID,
    DEFAULT_RETENTION_BYTES,
    DEFAULT_RETENTION_HOURS,
    DEFAULT_SILENT_CALL_HOURS,
    Durability,
    Found,
    expand_path,
    mask_url,
)

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
DEFAULT_SOURCE: Final = "llm-metering"

VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "home": ("LLM_METERING_HOME",),
    "sinks": ("LLM_METERING_SINKS",),
    "source": ("LLM_METERING_SOURCE",),
    "subject": ("LLM_METERING_SUBJECT",),
    "ledger": ("LLM_METERING_LEDGER",),
    "durability": ("LLM_METERING_DURABILITY",),
    "backlog_bytes": ("LLM_METERING_BACKLOG_BYTES",),
    "retention_hours": ("LLM_METERING_RETENTION_HOURS",),
    "retention_bytes": ("LLM_METERING_RETENTION_BYTES",),
    "event_type": ("LLM_METERING_EVENT_TYPE",),
    "event_id": ("LLM_METERING_EVENT_ID",),
    "openmeter_token": ("OPENMETER_API_KEY", "OPENMETER_TOKEN"),
    "tokenizer_download": ("LLM_METERING_TOKENIZER_DOWNLOAD",),
    "silent_call_hours": ("LLM_METERING_SILENT_CALL_HOURS",),
}
"""The settings, in the order they are shown, and the environment variables of each."""

_SECRETS = frozenset({"openmeter_token"})


class SettingRow(NamedTuple):
    """One setting as `llm-metering config` shows it, without secrets.

    Attributes:
        setting: Its name as an argument.
        value: What holds; for a secret `set` or `not set`.
        origin: Where it comes from.
    """

    setting: str
    value: str | int | float | tuple[str, ...] | None
    origin: str


@dataclass(frozen=True, kw_only=True, repr=False)
class Settings:
    """What holds, checked; made by `load_settings`.

    Attributes:
        home: The folder of the journal and the ledger, absolute.
        sinks: URLs of the sinks beside the ledger.
        source: The application's stable name, CloudEvents' `source`.
        subject: Who pays for calls that nobody else was named for.
        ledger: Whether usage is kept in the ledger on this machine.
        durability: What a recorded event survives: the death of the `process`, a `power` cut, or
            nothing (`memory`).
        backlog_bytes: How much a sink may be owed on disk; beyond it the oldest is given up.
        retention_hours: How long the journal keeps what every sink has had, to be replayed;
            0 deletes it at once.
        retention_bytes: What that may take on disk; the oldest goes first.
        event_type: The CloudEvents `type` that OpenMeter sinks send where their URL names none.
        event_id: Under which id they send an event where their URL does not say: `call` is the
            event's own, `response` the provider's response id.
        openmeter_token: The API key that OpenMeter sinks send.
        tokenizer_download: Whether tokenizer files may be fetched from OpenAI's servers when
            they are not on this machine.
        silent_call_hours: After how long without a sign of life a call in flight is closed.
        origins: Where each setting comes from: `argument`, `environment LLM_METERING_HOME`,
            `file /app/llm-metering.toml`, `default`.
    """

    home: Path
    sinks: tuple[str, ...] = ()
    source: str = DEFAULT_SOURCE
    subject: str | None = None
    ledger: bool = True
    durability: Durability = DEFAULT_DURABILITY
    backlog_bytes: int = DEFAULT_BACKLOG_BYTES
    retention_hours: float = DEFAULT_RETENTION_HOURS
    retention_bytes: int = DEFAULT_RETENTION_BYTES
    event_type: str | None = None
    event_id: str = DEFAULT_EVENT_ID
    openmeter_token: str | None = None
    tokenizer_download: bool = False
    silent_call_hours: float = DEFAULT_SILENT_CALL_HOURS
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)

    def describe(self) -> tuple[SettingRow, ...]:
        """Each setting with its value and its origin, fit to be shown to anybody."""
        shown: dict[str, str | int | float | tuple[str, ...] | None] = {
            "home": str(self.home),
            "sinks": tuple(mask_url(url) for url in self.sinks),
            "source": self.source,
            "subject": self.subject,
            "ledger": self.ledger,
            "durability": self.durability,
            "backlog_bytes": self.backlog_bytes,
            "retention_hours": self.retention_hours,
            "retention_bytes": self.retention_bytes,
            "event_type": self.event_type,
            "event_id": self.event_id,
            # Not even its last characters: a support ticket is no place for any part of a key.
            "openmeter_token": "not set" if self.openmeter_token is None else "set",
            "tokenizer_download": self.tokenizer_download,
            "silent_call_hours": self.silent_call_hours,
        }
        return tuple(
            SettingRow(name, shown[name], self.origins.get(name, "default")) for name in VARIABLES
        )

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value, _ in self.describe())
        return f"Settings({values})"


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
            `event_type`, `event_id`, `openmeter_token`, `tokenizer_download`.

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
    return Settings(**values, origins=origins)


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
        if variable in os.environ and not (name in _SECRETS and not os.environ[variable].strip())
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
        if name in _SECRETS or name.upper() in VARIABLES["openmeter_token"]:
            raise ConfigurationError(
                name,
                f"{path} holds a secret, and such a file ends up in version control; "
                f"take it out and set {VARIABLES['openmeter_token'][0]} in the environment",
            )
        if name not in VARIABLES:
            known = ", ".join(each for each in VARIABLES if each not in _SECRETS)
            message = f"{path} sets it, but there is no such setting; there are {known}"
            raise ConfigurationError(name, message)
    return table


def _default_home() -> Path:
    # Imported here, so that a process that names its home does not pay for it.
    import platformdirs

    return platformdirs.user_data_path("llm-metering").absolute()
