"""The meter's own health as OpenTelemetry metrics: what is recorded, delivered, waiting, lost.

They speak of the meter, not of the calls: usage itself goes to sinks, which count each event once.
Source of the conventions: https://opentelemetry.io/docs/specs/semconv/general/metrics/, and
opentelemetry-api 1.45.2, `opentelemetry/metrics/_internal/instrument.py`.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Final, assert_never

from ..errors import MissingExtraError
from ..meter import Meter
from .exported import Exported
from .instruments import ERRORS, INSTRUMENTS, Instrument, Read

try:
    from opentelemetry import metrics
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
except ImportError as error:
    raise MissingExtraError("opentelemetry-api", "otel") from error

__all__ = ["instrument", "uninstrument"]


def instrument(meter: Meter | None = None, *, meter_provider: MeterProvider | None = None) -> None:
    """Export the health of a meter from now on; calling it again changes nothing.

    The numbers are those of `Meter.statistics()`, read at most every five seconds. They count
    the home, which several processes may share: take the largest of theirs, not the sum.

    Args:
        meter: Which one; by default the process's own, as soon as there is one.
        meter_provider: Where to; by default OpenTelemetry's global one.
    """
    with _lock:
        exported = _exported_by(meter_provider)
        if exported is None:
            exported = Exported()
            provider = meter_provider or metrics.get_meter_provider()
            _register(provider, exported)
            if _is_global(meter_provider):
                _registry.everywhere = exported
            else:
                _registry.elsewhere[provider] = exported
        exported.show(meter)


def uninstrument() -> None:
    """Export nothing any more; the instruments stay, since OpenTelemetry cannot remove them."""
    with _lock:
        for exported in _registry.all():
            exported.hide()


class _Registry:
    """Who was given instruments; a provider that nobody holds any more is forgotten."""

    def __init__(self) -> None:
        self.everywhere: Exported | None = None
        self.elsewhere: weakref.WeakKeyDictionary[MeterProvider, Exported] = (
            weakref.WeakKeyDictionary()
        )

    def all(self) -> list[Exported]:
        """Everything that is or was exported."""
        everywhere = [] if self.everywhere is None else [self.everywhere]
        return [*everywhere, *self.elsewhere.values()]


_registry: Final = _Registry()
_lock: Final = threading.Lock()


def _is_global(provider: MeterProvider | None) -> bool:
    # Before one is set, the global one is a stand-in, which passes its instruments on later.
    return provider is None or provider is metrics.get_meter_provider()


def _exported_by(provider: MeterProvider | None) -> Exported | None:
    if provider is not None and provider in _registry.elsewhere:
        return _registry.elsewhere[provider]
    return _registry.everywhere if _is_global(provider) else None


def _register(provider: MeterProvider, exported: Exported) -> None:
    maker = provider.get_meter("llm_metering", version("llm-metering"))
    for each in INSTRUMENTS:
        _create(maker, each, _callback(exported, each.read))
    # Last: what the others could not read is in it at once.
    _create(maker, ERRORS, _error_callback(exported))


_Callback = Callable[[CallbackOptions], Iterable[Observation]]


def _create(maker: metrics.Meter, each: Instrument, callback: _Callback) -> None:
    match each.kind:
        case "counter":
            make: Callable[..., object] = maker.create_observable_counter
        case "up_down_counter":
            make = maker.create_observable_up_down_counter
        case "gauge":
            make = maker.create_observable_gauge
        case _:
            assert_never(each.kind)
    make(each.name, callbacks=[callback], unit=each.unit, description=each.description)


def _callback(exported: Exported, read: Read) -> _Callback:
    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(value, attributes) for value, attributes in exported.points(read)]

    return observe


def _error_callback(exported: Exported) -> _Callback:
    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(exported.errors)] if exported.is_shown else []

    return observe
