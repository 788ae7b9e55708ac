"""The server: usage taken in over HTTP, under keys. `llm-metering serve` runs it."""

from .app import create_app
from .options import ServerOptions

__all__ = ["ServerOptions", "create_app"]
