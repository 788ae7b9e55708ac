"""Stand-ins for what the counting needs."""

from __future__ import annotations

from llm_metering.exchange import Exchange, Output
from llm_metering.tokenizers import Encodings
from llm_metering.tokenizers.text import TextEncoding

NAME = "cl100k_base"
ADDRESS = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
FILE = "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"
"""An encoding, the address of its file, and what tiktoken names its copy."""


class Words:
    """An encoding in which each word is a token; it remembers what it was given."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode_ordinary(self, text: str, /) -> list[int]:
        self.texts.append(text)
        return list(range(len(text.split())))


class Only(Encodings):
    """The same encoding under every name, or none at all."""

    def __init__(self, encoding: TextEncoding | None) -> None:
        super().__init__()
        self.encoding = encoding
        self.asked: list[str] = []

    def get(self, name: str, /) -> TextEncoding | None:
        self.asked.append(name)
        return self.encoding


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Server:
    """Hands out a file, as often as it is asked."""

    def __init__(self, data: bytes | Exception) -> None:
        self.data = data
        self.asked: list[str] = []

    def __call__(self, address: str) -> bytes:
        self.asked.append(address)
        if isinstance(self.data, Exception):
            raise self.data
        return self.data


def chat(*messages: dict[str, object], model: str = "gpt-4o", **rest: object) -> Exchange:
    """A chat completion with these messages."""
    return Exchange(model=model, provider="openai", request={"messages": list(messages), **rest})


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


def answer(*texts: str, model: str = "gpt-4o", **rest: object) -> Exchange:
    """A chat completion that answered this, and of whose request nothing is known."""
    return Exchange(model=model, output=Output(texts=texts, **rest))  # type: ignore[arg-type]
