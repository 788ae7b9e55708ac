"""How a client of Kafka is made: from the URL of a topic, a file of properties, and credentials.

Used by the sink, which writes to a topic, and by `llm-metering ingest`, which reads one.
The properties are librdkafka's:
https://github.com/confluentinc/librdkafka/blob/v2.16.0/CONFIGURATION.md
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from ...errors import ConfigurationError, SinkURLError
from ..urls import split_url

__all__ = ["KafkaTopic", "read_properties", "topic_of"]

_SINK: Final = "a kafka"
_SECRETS: Final = (
    "user and password belong in LLM_METERING_KAFKA_USERNAME and LLM_METERING_KAFKA_PASSWORD, other"
    " secrets in the file that LLM_METERING_KAFKA_PROPERTIES names"
)
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_BROKER: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?")
_PROPERTY: Final = re.compile(r"[a-z][a-z0-9.]*\.[a-z0-9.]+")
"""Each has a dot, so that none can be taken for a parameter of ours."""

_IS_SECRET: Final = re.compile(r"password|secret|\.jaas\.|key\.pem|username|\.token|\.assertion\.")
_DEFAULT_PORT: Final = 9092
_LAST_PORT: Final = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaTopic:
    """A topic, and how its brokers are spoken to.

    Attributes:
        brokers: `host:port` of those that are asked first, sorted.
        topic: Its name.
        parameters: Those of the URL that are ours.
        properties: librdkafka's, as the URL, the file and the credentials have them; with secrets.
    """

    brokers: tuple[str, ...]
    topic: str
    parameters: Mapping[str, str]
    properties: Mapping[str, str] = field(repr=False)

    @property
    def url(self) -> str:
        """The topic's URL without parameters: the same whatever order the brokers are named in."""
        return f"kafka://{','.join(self.brokers)}/{self.topic}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values of properties that nothing may show.

        A user whose name is in the URL anyway, such as `kafka`, is none: without it nobody could
        read which broker is meant.
        """
        return tuple(
            value
            for name, value in self.properties.items()
            if _IS_SECRET.search(name) and not (name == "sasl.username" and value in self.url)
        )


def topic_of(
    url: str,
    credentials: Mapping[str, str],
    *,
    parameters: Collection[str],
    fixed: Collection[str],
) -> KafkaTopic:
    """Read `kafka://host[:port][,host[:port]…]/topic[?parameters]`.

    Args:
        url: A parameter that has a dot is a property of librdkafka.
        credentials: `kafka_username`, `kafka_password` and `kafka_properties`, where they are set.
        parameters: Which others it may have.
        fixed: Properties that nobody may change, since what is promised hangs on them.

    Raises:
        SinkURLError: Naming what is wrong and what is allowed, never what may be a secret.
        ConfigurationError: If the file of properties cannot be used.
    """
    parts = split_url(url, _SINK)
    if "@" in parts.netloc:
        raise SinkURLError(f"a kafka sink takes no user or password; {_SECRETS}")
    topic = unquote(parts.path.strip("/"))
    if not _TOPIC.fullmatch(topic) or topic in (".", ".."):
        raise SinkURLError(
            "a kafka sink needs a topic of letters, digits, '.', '_' and '-':"
            " kafka://host:9092/topic"
        )
    given = _parameters(parts.query, parameters)
    properties = _from_file(credentials, fixed)
    for name, value in given.items():
        if name not in parameters:
            _check_property(name, fixed, "the URL")
            if _IS_SECRET.search(name):
                raise SinkURLError(f"{name} is a secret, and no part of a URL; {_SECRETS}")
            properties[name] = value
    username, password = (credentials.get(f"kafka_{name}") for name in ("username", "password"))
    if username is not None:
        properties["sasl.username"] = username
    if password is not None:
        properties["sasl.password"] = password
    return KafkaTopic(
        brokers=_brokers(parts.netloc),
        topic=topic,
        parameters={name: given[name] for name in given if name in parameters},
        properties=properties,
    )


def read_properties(path: Path) -> dict[str, str]:
    """The lines `name=value` of a file, as Kafka's own tools read it; `#` and `!` begin comments.

    Raises:
        ConfigurationError: If it cannot be read. Values are not repeated.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigurationError(
            "kafka_properties", f"cannot read {path}: {error.strerror}"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError("kafka_properties", f"{path} is not UTF-8") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text[0] in "#!":
            continue
        name, equals, value = text.partition("=")
        if not equals or not _PROPERTY.fullmatch(name.strip()):
            raise ConfigurationError(
                "kafka_properties", f"line {number} of {path} is no name=value of librdkafka"
            )
        found[name.strip()] = value.strip()
    return found


def _brokers(netloc: str) -> tuple[str, ...]:
    brokers = set()
    for each in netloc.split(","):
        if not _BROKER.fullmatch(each):
            raise SinkURLError("a kafka sink needs brokers: kafka://host:9092,host:9092/topic")
        port = each.rpartition("]")[2].partition(":")[2]
        if port and not 0 < int(port) <= _LAST_PORT:
            raise SinkURLError(f"a broker's port is a number from 1 to {_LAST_PORT}")
        brokers.add(each.lower() if port else f"{each.lower()}:{_DEFAULT_PORT}")
    return tuple(sorted(brokers))


def _parameters(query: str, ours: Collection[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        # Not as forms have it, where a plus sign is a space: properties are written as they are.
        name, _, value = (unquote(each) for each in pair.partition("="))
        if name in found or not (name in ours or _PROPERTY.fullmatch(name)):
            raise SinkURLError(
                f"a kafka sink takes the parameters {', '.join(sorted(ours))} and properties of"
                f" librdkafka, such as security.protocol, each once; {_SECRETS}"
            )
        found[name] = value
    return found


def _from_file(credentials: Mapping[str, str], fixed: Collection[str]) -> dict[str, str]:
    path = credentials.get("kafka_properties")
    if path is None:
        return {}
    properties = read_properties(Path(path))
    for name in properties:
        _check_property(name, fixed, path)
    return properties


def _check_property(name: str, fixed: Collection[str], where: str) -> None:
    if name in fixed:
        raise SinkURLError(f"{name} cannot be set (in {where}): what is promised hangs on it")
