"""LlamaIndex's front end: `MeteringHandler`, `bind` and `metered_stream`."""

from ..errors import MissingExtraError

try:
    import llama_index.core  # noqa: F401  # without it nothing here can be imported
except ImportError as error:
    raise MissingExtraError("llama-index-core", "llamaindex") from error

from .handler import MeteringHandler, bind
from .streams import metered_stream

__all__ = ["MeteringHandler", "bind", "metered_stream"]
