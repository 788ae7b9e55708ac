"""`ServerOptions`: how much a server takes, and from whom."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigurationError

__all__ = ["ServerOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How much a server takes.

    Attributes:
        keys_required: Whether nothing is answered without a key or a token. Without, that holds once
            there is a key; until then everybody who reaches the server may do everything.
        hosts: Names under which it is called where no key is required, besides those of this machine:
            what a page of another site makes a browser send here has another one.
        max_body: Bytes of a request's body.
        max_events: Events of a request.
        max_event: Bytes of an event.
        max_depth: How deeply a body may be nested.
        body_timeout: Seconds for all of a body to come in.
        requests_per_minute: Of a key that says nothing else.
        portal_requests_per_minute: Of a portal token.
        most_sources: How many applications' events it has in hand at once; those that have been
            silent for longest are put aside.

    Raises:
        ConfigurationError: If a number is not above 0.
    """

    keys_required: bool = True
    hosts: tuple[str, ...] = ()
    max_body: int = 8 << 20
    max_events: int = 10_000
    max_event: int = 256 << 10
    max_depth: int = 32
    body_timeout: float = 30.0
    requests_per_minute: int = 60_000
    portal_requests_per_minute: int = 600
    most_sources: int = 64

    def __post_init__(self) -> None:
        for name in (
            "max_body",
            "max_events",
            "max_event",
            "max_depth",
            "body_timeout",
            "requests_per_minute",
            "portal_requests_per_minute",
            "most_sources",
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise ConfigurationError(name, f"a number above 0 is wanted, got {value!r}")
