"""How the SDKs of the providers are asked for embeddings, and what they answer.

Read in langchain-openai 1.7.3 (`embeddings/base.py`: `client.create`), langchain-google-genai 4.4.2
(`embeddings.py`: `client.models.embed_content`), langchain-ollama 1.1.0 (`_client.embed`),
langchain-cohere 0.6.0 (`client.embed`), langchain-mistralai 1.1.6 (an httpx client's `post`) and
langchain-aws 1.9.1 (`client.invoke_model`). A client is known by the package its class is from, not
by the class that holds it: whatever else is built on one of these clients is exact as well.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from ..extract import read
from ..extract.embeddings import read_embeddings
from ..extract.reading import Reading
from ..extract.views import as_list, as_mapping

__all__ = ["APIS", "Api"]

Given = Mapping[str, Any]
"""The arguments of a method of a client, by name."""


def _as_it_is(given: Given) -> Given | None:
    return given


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """How the clients of one SDK are asked for embeddings.

    Attributes:
        package: The module that their classes are from, or are below.
        method: The method that asks, by its path from the client.
        texts: The argument that holds what is to be embedded.
        model: The argument that names the model.
        positional: The names of the arguments that may come without theirs.
        provider: OpenTelemetry's name of who is asked, by the client and by who holds it.
        given: Puts the arguments into that form; `None` if this asks for no embeddings.
        inputs: The texts, or tokens, that an argument holds.
        complete: Gets what an answer still has to be waited for; it raises what waiting does.
        read: What an answer says.
    """

    package: str
    method: str
    texts: str
    model: str = "model"
    positional: tuple[str, ...] = ()
    provider: Callable[[Any, Any], str | None]
    given: Callable[[Given], Given | None] = _as_it_is
    inputs: Callable[[object], list[Any] | None]
    complete: Callable[[Any], None] | None = None
    read: Callable[[Any], Reading] = read


def _listed(value: object) -> list[Any] | None:
    """A copy: the application may go on with its own list while we count."""
    if isinstance(value, str):
        return [value]
    return [*value] if isinstance(value, list | tuple) else None


def _of_contents(value: object) -> list[Any]:
    """The texts of google-genai's `contents`."""
    return [text for one in _listed(value) or [value] for text in _texts_in(one)]


def _texts_in(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
        return
    fields = as_mapping(content) or {}
    for part in as_list(fields.get("parts")) or (fields,):
        text = part if isinstance(part, str) else (as_mapping(part) or {}).get("text")
        if isinstance(text, str):
            yield text


def _of_body(value: object) -> list[Any] | None:
    """The texts of a request to one of Bedrock's models."""
    body = json.loads(value) if isinstance(value, str | bytes | bytearray) else {}
    nova = (body.get("singleEmbeddingParams") or {}).get("text") or {}
    return _listed(body.get("texts") or body.get("inputText") or nova.get("value"))


def _of_posted(given: Given) -> Given | None:
    """The body of a request for embeddings, of a client that may be asked for anything."""
    body = given.get("json")
    is_asked = "embed" in str(given.get("url")).lower() and isinstance(body, Mapping)
    return body if is_asked else None


def _read_posted(response: Any) -> Reading:
    """What an httpx response says, an error one as well: it is raised later, if at all."""
    status = response.status_code
    if status >= 400:
        # 408 is a request that timed out on its way: whether it was worked on nobody knows.
        is_refused = status < 500 and status != 408
        ending: Any = "refused" if is_refused else "failed"
        return Reading(shape="http", ending=ending, reason=str(status))
    return read_embeddings(response.content)


def _complete_invoked(response: dict[str, Any]) -> None:
    """Read the body of an answer whose headers say nothing, and put one like it in its place."""
    if read(response).usage is None and (body := response.get("body")) is not None:
        text = body.read()
        response["body"] = type(body)(io.BytesIO(text), len(text))
        response["body"].llm_metering_text = text


def _read_invoked(response: dict[str, Any]) -> Reading:
    reading = read(response)
    text = getattr(response.get("body"), "llm_metering_text", None)
    if reading.usage is None and text is not None:
        said = read(text)
        return replace(reading, usage=said.usage, measures=said.measures, flags=said.flags)
    return reading


def _openais(client: Any, _: object) -> str:
    # What offers `create` holds the client it belongs to.
    kind = type(getattr(client, "_client", client)).__name__
    return "azure.ai.openai" if "Azure" in kind else "openai"


def _googles(client: Any, _: object) -> str:
    return "gcp.vertex_ai" if client.vertexai else "gcp.gemini"


def _asked_by_post(_: object, holder: Any) -> str | None:
    is_mistrals = any(
        kind.__module__.startswith("langchain_mistralai") for kind in type(holder).__mro__
    )
    return "mistral_ai" if is_mistrals else None


_OPENAI: Final = partial(Api, texts="input", provider=_openais, inputs=_listed)
_GENAI: Final = partial(
    Api, package="google.genai", texts="contents", provider=_googles, inputs=_of_contents
)

APIS: Final = (
    _OPENAI(package="openai.resources.embeddings", method="create"),
    _OPENAI(package="openai._client", method="embeddings.create"),
    _GENAI(method="models.embed_content"),
    _GENAI(method="aio.models.embed_content"),
    Api(
        package="ollama",
        method="embed",
        texts="input",
        positional=("model", "input"),
        provider=lambda *_: "ollama",
        inputs=_listed,
    ),
    Api(
        package="cohere",
        method="embed",
        texts="texts",
        provider=lambda *_: "cohere",
        inputs=_listed,
    ),
    Api(
        package="httpx",
        method="post",
        texts="input",
        positional=("url",),
        provider=_asked_by_post,
        given=_of_posted,
        inputs=_listed,
        read=_read_posted,
    ),
    Api(
        package="botocore.client",
        method="invoke_model",
        texts="body",
        model="modelId",
        provider=lambda *_: "aws.bedrock",
        inputs=_of_body,
        complete=_complete_invoked,
        read=_read_invoked,
    ),
)
