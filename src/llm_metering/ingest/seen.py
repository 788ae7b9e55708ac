"""What a consumer is handed out: records, ends of partitions, and what went wrong.

Errors are told apart by name, since the package that has their codes may not be installed:
https://github.com/confluentinc/librdkafka/blob/v2.16.0/src/rdkafka.h
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from ..errors import MeteringError
from ..sinks.kafka.faults import plain
from ..sinks.reasons import shorten
from .records import Headers

__all__ = [
    "BrokerError",
    "End",
    "OutOfRange",
    "Record",
    "Seen",
    "Trouble",
    "error_of",
    "seen_of",
    "trouble_of",
    "worst_of",
]

# They stay until somebody changes something, and at the start somebody is there to see it.
_LASTING: Final = (
    "_AUTHENTICATION",
    "_SSL",
    "SASL_AUTHENTICATION_FAILED",
    "UNSUPPORTED_SASL_MECHANISM",
    "TOPIC_AUTHORIZATION_FAILED",
    "CLUSTER_AUTHORIZATION_FAILED",
    "UNKNOWN_TOPIC_OR_PART",
    "TOPIC_EXCEPTION",
)
# When it is over, the topic may be another one.
_DOUBTFUL: Final = (
    "_ALL_BROKERS_DOWN",
    "_UNKNOWN_PARTITION",
    "_UNKNOWN_TOPIC",
    "INCONSISTENT_TOPIC_ID",
    "UNKNOWN_TOPIC_ID",
    "UNKNOWN_TOPIC_OR_PART",
)


class BrokerError(MeteringError, OSError):
    """The brokers do not answer, or not with what was asked for.

    Attributes:
        lasting: It stays so until a person changes something.
    """

    def __init__(self, reason: str, *, lasting: bool) -> None:
        super().__init__(reason)
        self.lasting = lasting


class Record(NamedTuple):
    """A record of the topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int


class End(NamedTuple):
    """All that a partition has was read, up to this offset."""

    partition: int
    offset: int


class OutOfRange(NamedTuple):
    """A partition does not have the offset that was asked for."""

    partition: int


class Trouble(NamedTuple):
    """Something that librdkafka deals with itself.

    Attributes:
        reason: What it is.
        doubtful: Whether positions have to be looked at again.
        lasting: Whether it stays so until a person changes something.
    """

    reason: str
    doubtful: bool
    lasting: bool = False


Seen = Record | End | OutOfRange | Trouble


def seen_of(message: Any, secrets: Iterable[str] = ()) -> Seen:
    """What a message of confluent-kafka means."""
    error = message.error()
    if error is None:
        return Record(
            message.partition(),
            message.offset(),
            message.key(),
            message.value(),
            message.headers() or (),
            message.timestamp()[1],
        )
    if error.name() == "_PARTITION_EOF":
        return End(message.partition(), message.offset())
    if error.name() in ("_AUTO_OFFSET_RESET", "_LOG_TRUNCATION"):
        return OutOfRange(message.partition())
    return trouble_of(error, secrets)._replace(lasting=error.name() in _LASTING)


def trouble_of(error: Any, secrets: Iterable[str] = ()) -> Trouble:
    """What an error means that librdkafka deals with."""
    return Trouble(shorten(plain(error), secrets), error.name() in _DOUBTFUL)


def error_of(error: Any, about: str, secrets: Iterable[str]) -> BrokerError:
    """What an error means that an answer was refused with."""
    return BrokerError(about + shorten(plain(error), secrets), lasting=error.name() in _LASTING)


def worst_of(errors: list[Any], secrets: Iterable[str]) -> BrokerError:
    """The one of them that a person has to know."""
    # What the question failed with comes first, then what happened on the way, which says more;
    # the last of it, but that all brokers are down is no reason.
    reasons = [each for each in errors if each.name() != "_ALL_BROKERS_DOWN"] or errors
    found = [error_of(each, "", secrets) for each in reasons]
    return next((each for each in found if each.lasting), found[-1])
