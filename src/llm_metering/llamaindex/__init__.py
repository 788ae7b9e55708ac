"""LlamaIndex's front end: `MeteringHandler`, `bind`, `metered_stream` and `MeterWorkers`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError

if TYPE_CHECKING:
    from .handler import MeteringHandler, bind
    from .streams import metered_stream
    from .workers import MeterWorkers

__all__ = ["MeterWorkers", "MeteringHandler", "bind", "metered_stream"]

# Imported when they are asked for: `install()` goes through this package too, and LlamaIndex takes
# more than a second to import, in a program that may never use it.
_MODULES = {
    "MeterWorkers": "workers",
    "MeteringHandler": "handler",
    "bind": "handler",
    "metered_stream": "streams",
}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import llama_index.core  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("llama-index-core", "llamaindex") from error
    return getattr(import_module(f".{module}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
