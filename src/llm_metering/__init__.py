"""Meter the tokens each customer used, and forward them as CloudEvents.

``llm_metering.langchain.MeteringHandler`` meters LangChain calls; `install` meters every call
of the process; `subject` says who pays. Names are resolved when they are first used: importing
this package loads no framework, no HTTP client, no database, and starts no thread.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .default_meter import aclose as aclose
    from .default_meter import aflush as aflush
    from .default_meter import arecord as arecord
    from .default_meter import balance as balance
    from .default_meter import close as close
    from .default_meter import configure as configure
    from .default_meter import flush as flush
    from .default_meter import get_meter as get_meter
    from .default_meter import grant as grant
    from .default_meter import metered_stream as metered_stream
    from .default_meter import record as record
    from .default_meter import reserve as reserve
    from .default_meter import usage as usage
    from .errors import BalanceExceeded as BalanceExceeded
    from .errors import MeteringError as MeteringError
    from .errors import RateExceeded as RateExceeded
    from .errors import TransportProblem as TransportProblem
    from .events import UsageEvent as UsageEvent
    from .flushing import flush_after as flush_after
    from .global_handlers import install as install
    from .global_handlers import uninstall as uninstall
    from .meter import Meter as Meter
    from .meters import UsageReport as UsageReport
    from .notebook import watch as watch
    from .notebook.magic import load_ipython_extension as load_ipython_extension
    from .notebook.magic import unload_ipython_extension as unload_ipython_extension
    from .subjects import sign_subject as sign_subject
    from .subjects import subject as subject
    from .token_usage import TokenUsage as TokenUsage

    __version__: str

_HOMES = {
    "BalanceExceeded": "errors",
    "RateExceeded": "errors",
    "balance": "default_meter",
    "grant": "default_meter",
    "reserve": "default_meter",
    "Meter": "meter",
    "MeteringError": "errors",
    "TransportProblem": "errors",
    "TokenUsage": "token_usage",
    "UsageEvent": "events",
    "UsageReport": "meters",
    "aclose": "default_meter",
    "aflush": "default_meter",
    "arecord": "default_meter",
    "close": "default_meter",
    "configure": "default_meter",
    "flush": "default_meter",
    "flush_after": "flushing",
    "get_meter": "default_meter",
    "install": "global_handlers",
    "load_ipython_extension": "notebook.magic",
    "metered_stream": "default_meter",
    "record": "default_meter",
    "sign_subject": "subjects",
    "subject": "subjects",
    "uninstall": "global_handlers",
    "unload_ipython_extension": "notebook.magic",
    "usage": "default_meter",
    "watch": "notebook",
}

__all__ = [
    "BalanceExceeded",
    "Meter",
    "MeteringError",
    "RateExceeded",
    "TokenUsage",
    "TransportProblem",
    "UsageEvent",
    "UsageReport",
    "__version__",
    "aclose",
    "aflush",
    "arecord",
    "balance",
    "close",
    "configure",
    "flush",
    "flush_after",
    "get_meter",
    "grant",
    "install",
    "metered_stream",
    "record",
    "reserve",
    "sign_subject",
    "subject",
    "uninstall",
    "usage",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        # Here: it brings the parsers of e-mail along, forty milliseconds of them.
        from importlib.metadata import version

        return version("llm-metering")
    if name == "MeteringHandler":
        raise ImportError(
            "there is one for each framework: import MeteringHandler from llm_metering.langchain"
            " (or, for LlamaIndex, from llm_metering.llamaindex)"
        )
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
