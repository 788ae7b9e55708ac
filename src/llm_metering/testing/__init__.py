"""For tests of what you meter: a fake OpenMeter server, a meter that shows its events, a clock.

Names are resolved when they are first used, so that the pytest plugin costs a test run nothing
that it does not ask for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ..sinks.memory import MemorySink as MemorySink
    from .clock import FakeClock as FakeClock
    from .contract import RemoteSinkContract as RemoteSinkContract
    from .contract import SinkBench as SinkBench
    from .contract import SinkContract as SinkContract
    from .meter import RecordedMeter as RecordedMeter
    from .meter import as_default as as_default
    from .received import Received as Received
    from .server import OpenMeterServer as OpenMeterServer

_HOMES: Final = {
    "FakeClock": ".clock",
    "MemorySink": "..sinks.memory",
    "OpenMeterServer": ".server",
    "Received": ".received",
    "RecordedMeter": ".meter",
    "RemoteSinkContract": ".contract",
    "SinkBench": ".contract",
    "SinkContract": ".contract",
    "as_default": ".meter",
}

__all__ = [
    "FakeClock",
    "MemorySink",
    "OpenMeterServer",
    "Received",
    "RecordedMeter",
    "RemoteSinkContract",
    "SinkBench",
    "SinkContract",
    "as_default",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
