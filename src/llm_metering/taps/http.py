"""The tap of httpx and of httpx2, which nearly all clients of providers are made of.

Source: httpx 0.28.1 and httpx2 2.16.2, `_models.py`, `Response.iter_bytes`, `aiter_bytes` and
`_get_content_decoder`. Whoever reads a response, at once or piece by piece, in threads or on an
event loop, asks it once for its content decoder and has each piece decoded by it. So the decoder is
the one place where all bytes come by, decompressed, and to stand there adds no generator, no task
and no copy to the application's way of reading. It is a private name: where a version has it no
more there is no tap, and what the framework says stands.

openai 3 and anthropic 2 use httpx2; groq, cohere, langchain-mistralai, ollama, openrouter and
google-genai use httpx.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, Final

from .body import Body
from .call import current
from .patch import Patch

__all__ = ["PATCHES"]

_DECODER: Final = "_get_content_decoder"
_LINES: Final = ("event-stream", "ndjson", "stream+json")


def _around(theirs: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @wraps(theirs)
    def get_content_decoder(self: Any) -> Any:
        decoder = theirs(self)
        call = current()
        # Put in a second time over somebody else's patch, since the first could not be taken out.
        is_observed = type(decoder).__name__ == _Observed.__name__
        if call is None or call.is_over or is_observed:
            return decoder
        try:
            if not _is_answer(self):
                return decoder
            body = call.body(has_lines=_has_lines(self), headers=self.headers)
        except Exception:
            return decoder
        return decoder if body is None else _Observed(decoder, body)

    return get_content_decoder


PATCHES: Final = (
    Patch("httpx", "Response", _DECODER, _around),
    Patch("httpx2", "Response", _DECODER, _around),
)


def _is_answer(response: Any) -> bool:
    # A refusal costs nothing, and may be followed by another try.
    return bool(200 <= response.status_code < 300)


def _has_lines(response: Any) -> bool:
    kind = response.headers.get("content-type") or ""
    return any(name in kind for name in _LINES)


class _Observed:
    """A decoder whose output somebody reads along.

    httpx gives back the bytes themselves, httpx2 gives them piece by piece.
    """

    __slots__ = ("_body", "_decoder", "_is_identity")

    def __init__(self, decoder: Any, body: Body) -> None:
        self._decoder = decoder
        self._body = body
        self._is_identity = type(decoder).__name__ == "IdentityDecoder"

    def decode(self, data: bytes) -> Any:
        if self._is_identity:
            self._body.feed(data)
            return self._decoder.decode(data)
        decoded = self._decoder.decode(data)
        if type(decoded) is bytes:
            self._body.feed(decoded)
            return decoded
        return self._passing(decoded) if isinstance(decoded, Iterator) else self._unknown(decoded)

    def flush(self) -> Any:
        decoded = self._decoder.flush()
        if isinstance(decoded, Iterator):
            return self._passing_last(decoded)
        if type(decoded) is not bytes:
            return self._unknown(decoded)
        self._body.feed(decoded)
        self._body.end()
        return decoded

    def _passing(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._body.feed(piece)
            yield piece

    def _passing_last(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        yield from self._passing(pieces)
        self._body.end()

    def _unknown(self, decoded: Any) -> Any:
        self._body.lose()
        return decoded

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)
