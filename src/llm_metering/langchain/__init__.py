"""LangChain's front end: `MeteringHandler`, and `metered_embeddings` for what has no callbacks."""

from .embeddings import metered_embeddings
from .handler import MeteringHandler

__all__ = ["MeteringHandler", "metered_embeddings"]
