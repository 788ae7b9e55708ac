"""Counting text where the provider reported nothing.

Exactly where the model is OpenAI's, since its encoding is published; else by the ratio of a family's
counts to one of those encodings, and the method says so. `guess` looks at lengths alone and is for
threads that must not wait; `count` is for one of ours.
"""

from __future__ import annotations

from .counting import count
from .encodings import Encodings
from .guessing import guess

__all__ = ["Encodings", "count", "guess"]
