"""Opening what the settings name: the ledger and the sinks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .errors import ConfigurationError
from .settings import Settings
from .sinks.base import Sink
from .subjects import SubjectRules, SubjectVerifier
from .transport.retention import Retention
from .transport.spool import debt_of

if TYPE_CHECKING:
    from .ledger import Ledger

__all__ = ["open_ledger", "open_sinks", "retention_of", "rules_of", "urls_and_objects"]


def retention_of(settings: Settings) -> Retention:
    """What becomes of the journal's segments once every sink has had them."""
    return Retention(hours=settings.retention_hours, max_bytes=settings.retention_bytes)


def rules_of(settings: Settings) -> SubjectRules:
    """How run metadata is read."""
    secrets = settings.subject_token_secrets
    return SubjectRules(
        keys=settings.subject_keys,
        from_metadata=settings.subject_from_metadata,
        verifier=SubjectVerifier(secrets, audience=settings.source) if secrets else None,
        dimensions=settings.metadata_dimensions,
    )


def open_ledger(settings: Settings) -> Ledger | None:
    """The ledger of the home; `None` if it is switched off."""
    if not settings.ledger:
        return None
    # Here, not above: `import llm_metering` brings no database along.
    from .ledger import Ledger

    return Ledger(settings.home / "ledger.db", keys=settings.ledger_keys)


def urls_and_objects(sinks: Iterable[str | Sink] | None) -> tuple[object, list[Sink]]:
    """Sinks as they were given: those that settings name, if any, and those that are objects."""
    if sinks is None or isinstance(sinks, str):
        return sinks, []
    given = tuple(sinks)
    urls = [sink for sink in given if isinstance(sink, str)]
    return urls, [sink for sink in given if not isinstance(sink, str)]


def open_sinks(settings: Settings, own: Iterable[Sink], objects: Iterable[Sink]) -> list[Sink]:
    """All sinks: our own, those that URLs name, those that were given as objects.

    Raises:
        ConfigurationError: If an object is no sink, or two have one name, or deliver to one place for one account.
        SinkURLError: If a URL is none we can deliver to.
    """
    from .sinks import open_sink
    from .sinks.registry import check_sink

    sinks: list[Sink] = list(own)
    sinks += [
        open_sink(
            url,
            source=settings.source,
            event_type=settings.event_type,
            event_id=settings.event_id,
            **settings.credentials,
        )
        for url in settings.sinks
    ]
    for each in objects:
        check_sink(each, f"an object of {type(each).__qualname__}")
        sinks.append(each)
    names: set[str] = set()
    debts: set[str] = set()
    for sink in sinks:
        if sink.name in names:
            raise ConfigurationError(
                "sinks", f"two sinks are called {sink.name!r}; give one of them ?name=…"
            )
        debt = debt_of(sink).key
        if debt in debts:
            # Each would wait for the other's acknowledgements, and the server get all twice.
            raise ConfigurationError(
                "sinks", f"{sink.name!r} delivers where another sink does, for the same account"
            )
        names.add(sink.name)
        debts.add(debt)
    return sinks
