"""Which sink a URL's scheme means: one of ours, or one that another package brings."""

from __future__ import annotations

import importlib
import os
import traceback
from collections.abc import Mapping
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Final
from urllib.parse import urlsplit

from ..errors import ConfigurationError, MeteringError, SinkURLError
from .base import Sink, SinkContext, SinkFactory, SinkLimits

__all__ = ["ENTRY_POINTS", "check_sink", "open_sink"]

ENTRY_POINTS: Final = "llm_metering.sinks"
"""The group under which a package registers its sinks: the name is the URL's scheme, the object a
`SinkFactory`."""

_MODULES: Final[Mapping[str, str]] = {
    "cloudevents+http": "cloudevents",
    "cloudevents+https": "cloudevents",
    "jsonl": "jsonl",
    "kafka": "kafka",
    "lago+http": "lago",
    "lago+https": "lago",
    "memory": "memory",
    "openmeter+http": "openmeter",
    "openmeter+https": "openmeter",
    "stripe": "stripe",
    "stripe+http": "stripe",
    "stripe+https": "stripe",
}
"""The module of each scheme; each has `from_url`. They are imported when they are asked for,
so that nobody pays for the libraries of a sink they do not use."""

_PORT: Final = ("name", "url", "account", "limits", "deliver", "close")
"""What a `Sink` has."""

_HINTS: Final[Mapping[str, str]] = {
    "http": "for OpenMeter write openmeter+http://…, for a server of your own cloudevents+http://…",
    "https": "for OpenMeter write openmeter+https://…, for a server of your own"
    " cloudevents+https://…",
    "file": "for a file of JSON lines write jsonl:///…",
}


def open_sink(
    url: str,
    *,
    source: str,
    event_type: str | None = None,
    event_id: str = "call",
    **credentials: str | None,
) -> Sink:
    """Make the sink that `url` names; it connects when it delivers.

    Args:
        url: `openmeter+https://…`, `cloudevents+https://…`, `kafka://…`, `stripe://…`,
            `lago+https://…`, `jsonl:///…`, `memory:`, or one whose scheme another package registered.
        source: The application's name; the account of sinks whose URL names none.
        event_type: The CloudEvents `type` that OpenMeter sinks send where their URL names none.
        event_id: Under which id they send an event where their URL does not say: `call` or
            `response`.
        **credentials: Keys, passwords and the like by the name of their setting, such as `openmeter_token`.

    Raises:
        SinkURLError: If there is no such sink or its URL makes no sense. The message never
            holds the URL, in which somebody may have put a key.
        MissingExtraError: If a package is missing that the sink needs.
    """
    url = url.strip()
    context = SinkContext(
        source=source,
        event_type=event_type,
        event_id=event_id,
        credentials={name: value for name, value in credentials.items() if value is not None},
    )
    return _factory(_scheme(url))(url, context)


def check_sink(sink: Sink, what: str) -> None:
    """Refuse what is no sink; the journal keeps debts under what is looked at here.

    Args:
        sink: What somebody gave for one.
        what: It, in words, for errors.

    Raises:
        ConfigurationError: Naming what is wrong, and no value.
    """
    problem = _problem_of(sink)
    if problem is not None:
        raise ConfigurationError("sinks", f"{what} is no sink: {problem}")


def _problem_of(sink: Sink) -> str | None:
    for name in _PORT:
        if not hasattr(sink, name):
            return f"it has no {name}"
    # A segment whose header holds anything else could not be read back: nobody's events in it.
    named: dict[str, object] = {"name": sink.name, "url": sink.url, "account": sink.account}
    for name, value in named.items():
        if not isinstance(value, str):
            return f"its {name} is {type(value).__name__}, not a string"
        if name != "account" and not (value and value.isprintable()):
            return f"its {name} is empty or not printable"
    limits: object = sink.limits
    if not isinstance(limits, SinkLimits):
        return f"its limits are {type(limits).__name__}, not SinkLimits"
    return None


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError:
        # urllib quotes the part of the URL that a password would stand in.
        raise SinkURLError("a sink's URL cannot be read; is its host complete?") from None


def _factory(scheme: str) -> SinkFactory:
    if scheme in _MODULES:
        module = importlib.import_module(f".{_MODULES[scheme]}", __package__)
        factory: SinkFactory = module.from_url
        return factory
    others = entry_points(group=ENTRY_POINTS)
    if scheme in others.names:
        return _load(_only(scheme, others.select(name=scheme)))
    known = ", ".join(f"{name}:" for name in sorted({*_MODULES, *others.names}))
    problem = f"unknown scheme {scheme!r}" if scheme else "a sink's URL begins with a scheme"
    hint = f" ({_HINTS[scheme]})" if scheme in _HINTS else ""
    raise SinkURLError(f"{problem}; there are {known}{hint}")


def _only(scheme: str, found: EntryPoints) -> EntryPoint:
    if len({each.value for each in found}) > 1:
        places = " and ".join(sorted(each.value for each in found))
        raise ConfigurationError("sinks", f"two packages bring the sink {scheme!r}: {places}")
    return next(iter(found))


def _load(entry_point: EntryPoint) -> SinkFactory:
    try:
        loaded = entry_point.load()
    except MeteringError:
        raise
    except Exception as error:
        # A foreign package that cannot be imported must be told from a URL that is wrong.
        raise ConfigurationError(
            "sinks",
            f"the sink {entry_point.name!r} cannot be loaded from {entry_point.value}:"
            f" {type(error).__name__}: {error}",
        ) from error
    if not callable(loaded):
        raise ConfigurationError(
            "sinks", f"the sink {entry_point.name!r} is no function: {entry_point.value}"
        )

    def make(url: str, context: SinkContext) -> Sink:
        try:
            sink: Sink = loaded(url, context)
        except MeteringError:
            raise
        except Exception as error:
            # Neither its text nor what led to it, which may quote the URL; the place must do.
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{os.path.basename(last.filename)}, line {last.lineno}"
            problem = (
                f"the sink {entry_point.name!r} cannot be made: {type(error).__name__} ({place})"
            )
            raise ConfigurationError("sinks", problem) from None
        check_sink(sink, f"what {entry_point.value} makes")
        return sink

    return make
