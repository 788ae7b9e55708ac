"""LangChain's front end: `MeteringHandler`."""

from .handler import MeteringHandler

__all__ = ["MeteringHandler"]
