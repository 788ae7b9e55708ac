"""Why Kafka did not write a record, and what that means for the event.

Source: https://kafka.apache.org/protocol.html#protocol_error_codes and, for what a client finds itself
(names that begin with an underscore), the codes of librdkafka:
https://github.com/confluentinc/librdkafka/blob/v2.16.0/src/rdkafka.h
"""

from __future__ import annotations

import re
from typing import Final, Literal, Protocol

import msgspec

__all__ = ["REFUSED", "Fault", "FaultKind", "LibraryError", "fault_of", "plain"]

FaultKind = Literal["size", "content", "too_large", "hold", "later", "unknown"]
"""`size` and `content`: refused together with others, one of which may be to blame; `too_large`: this
record alone, by our own limit; `hold`: a person must mend it; `later`: not written; `unknown`: it may
be written."""

REFUSED: Final[frozenset[FaultKind]] = frozenset(["size", "content"])

_KINDS: Final[dict[str, FaultKind]] = {
    **dict.fromkeys(["MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE"], "size"),
    # A broker names the records that it finds invalid; librdkafka gives the others of the batch
    # the second code.
    **dict.fromkeys(
        ["INVALID_RECORD", "_INVALID_DIFFERENT_RECORD", "POLICY_VIOLATION", "INVALID_TIMESTAMP"],
        "content",
    ),
    **dict.fromkeys(
        [
            *("_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED", "UNSUPPORTED_SASL_MECHANISM"),
            *("ILLEGAL_SASL_STATE", "SECURITY_DISABLED", "TOPIC_AUTHORIZATION_FAILED"),
            *("CLUSTER_AUTHORIZATION_FAILED", "UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC"),
            *("TOPIC_EXCEPTION", "UNSUPPORTED_VERSION", "_UNSUPPORTED_FEATURE"),
            *("UNSUPPORTED_FOR_MESSAGE_FORMAT", "UNSUPPORTED_COMPRESSION_TYPE"),
            "INVALID_REQUIRED_ACKS",
        ],
        "hold",
    ),
}
"""Of all others a record may be the victim that was written before, by a request without an answer."""
_PASSING: Final = re.compile(r" \(after \d+ms in state.*$|: \d+/\d+ brokers are down$")
"""What changes from one try to the next, and would make a new reason of each."""


class Fault(msgspec.Struct, frozen=True, gc=False):
    """What became of a record that was not written, as far as is known, and why."""

    kind: FaultKind
    reason: str


class LibraryError(Protocol):
    """`confluent_kafka.KafkaError`, as far as it is looked at."""

    def name(self) -> str: ...
    def str(self) -> str: ...
    def fatal(self) -> bool: ...
    def code(self) -> int: ...


def fault_of(error: LibraryError) -> Fault:
    """What an error in the report about a record means; none of these quotes the record."""
    return Fault(_KINDS.get(error.name(), "unknown"), plain(error))


def plain(error: LibraryError) -> str:
    """What an error says, the same each time that it happens.

    >>> class Refused:
    ...     def name(self): return "_TRANSPORT"
    ...     def str(self): return "b1:9092/1: Connection refused (after 3ms in state CONNECT)"
    >>> plain(Refused())
    '_TRANSPORT: b1:9092/1: Connection refused'
    """
    return _PASSING.sub("", f"{error.name()}: {error.str()}")
