"""Requests to one OpenMeter server, and what to do about those it does not answer.

Source: `errors` and `queryMeterPost` of `api/openapi.yaml` (v1), `query-meter` of
`api/v3/openapi.yaml`, https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ..errors import RemoteUsageError
from ..sinks.asking import Asker, Reply, UnreachableError
from ..sinks.openmeter import OpenMeterSink
from ..sinks.problems import problem_texts
from ..sinks.server_meters import METER_LISTS, ServerMeter, read_meters

__all__ = ["Conversation", "GoneError", "RefusedError", "conversation"]

_MOST_BYTES: Final = 256 << 20
_LONGEST_DETAIL: Final = 300
_LAST_PAGE: Final = 1000
_PAGES: Final[Mapping[str, str]] = {"v1": "page", "v3": "page[number]"}
_OLDEST: Final = "it takes questions by POST from OpenMeter v1.0.0-beta.214 (June 2025) on"


class GoneError(Exception):
    """The server has no such meter (any more)."""


class RefusedError(Exception):
    """The server finds something wrong with a question; the message is its own."""


@contextlib.contextmanager
def conversation(sink: OpenMeterSink, limit: float) -> Iterator[Conversation]:
    """Ask a server several things, over connections that stay open for as long.

    Args:
        sink: Which server, and with what key.
        limit: Seconds for each request.

    Raises:
        RemoteUsageError: If no request can be made.
    """
    try:
        asker = Asker(limit=limit, token=sink.token, most_bytes=_MOST_BYTES)
    except UnreachableError as error:
        raise _error(sink, error.found, error.advice) from None
    with asker:
        yield Conversation(sink, asker)


class Conversation:
    """What a server can be asked; made by `conversation`."""

    def __init__(self, sink: OpenMeterSink, asker: Asker) -> None:
        self._sink = sink
        self._asker = asker

    def meters(self) -> list[ServerMeter]:
        """All meters of the server, in its order.

        Raises:
            RemoteUsageError: If it does not list them.
        """
        return [meter for page in self._pages() for meter in page]

    def rows(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON that a question is answered with, its decimals as they are written.

        Raises:
            GoneError: If there is no such meter.
            RefusedError: If the server finds the question wrong.
            RemoteUsageError: If it gives no answer.
        """
        reply = self._ask("POST", path, body=json.dumps(body).encode())
        if reply.status == 404:
            raise GoneError
        if reply.status in (405, 501):
            raise self._error(f"it takes no such question ({reply.status})", _OLDEST)
        if reply.status in (400, 422):
            raise RefusedError(_detail(reply, self._sink.token) or f"status {reply.status}")
        document = self._document(reply)
        rows = document.get("data") if isinstance(document, dict) else None
        if not isinstance(rows, list):
            raise self.unreadable()
        return rows

    def unreadable(self) -> RemoteUsageError:
        """The error of an answer in a form that nobody knows."""
        return self._error(
            "it answers in no form known here", "does the sink's URL name an OpenMeter server?"
        )

    def _pages(self) -> Iterator[list[ServerMeter]]:
        path, parameters = METER_LISTS[self._sink.api]
        [size] = parameters.values()
        for number in range(1, _LAST_PAGE):
            page = {**parameters, **({_PAGES[self._sink.api]: number} if number > 1 else {})}
            reply = self._ask("GET", path, parameters=page)
            if reply.status == 404:
                raise self._error(
                    f"it has no API {self._sink.api} at that address (404)",
                    "look at the sink's URL, its base path and its ?api=",
                )
            listed = read_meters(self._document(reply))
            if listed is None:
                raise self.unreadable()
            yield listed
            if len(listed) < size:
                return

    def _ask(self, method: str, path: str, **arguments: Any) -> Reply:
        if "body" in arguments:
            arguments["content_type"] = "application/json"
        try:
            return self._asker.ask(method, self._sink.base + path, **arguments)
        except UnreachableError as error:
            raise self._error(error.found, error.advice) from None

    def _document(self, reply: Reply) -> Any:
        if reply.status == 200:
            try:
                return json.loads(reply.content)
            except (ValueError, RecursionError):
                raise self.unreadable() from None
        raise self._refused(reply)

    def _refused(self, reply: Reply) -> RemoteUsageError:
        status = reply.status
        if status in (401, 403):
            found = "does not take the key" if self._sink.token else "asks for a key"
            return self._error(
                f"it {found} ({status})",
                "a key belongs in the environment variable OPENMETER_API_KEY",
            )
        if status == 429 or status >= 500:
            wait = f" in {reply.retry_after:g} s" if reply.retry_after else ""
            return self._error(f"it cannot answer now ({status})", f"ask again{wait}")
        said = _detail(reply, self._sink.token)
        return self._error(
            f"it does not answer ({status}{f': {said}' if said else ''})",
            "`llm-metering doctor` looks at the server",
        )

    def _error(self, found: str, advice: str) -> RemoteUsageError:
        return _error(self._sink, found, advice)


def _error(sink: OpenMeterSink, found: str, advice: str) -> RemoteUsageError:
    return RemoteUsageError(
        f"the OpenMeter server of sink {sink.name} ({sink.base}): {found}; {advice}"
    )


def _detail(reply: Reply, token: str | None) -> str:
    # A server's words: of a length and kind that any terminal and log can take.
    said = "; ".join(problem_texts("json", reply.content)[1:])
    if token:
        said = said.replace(token, "…")
    return "".join(sign for sign in said if sign.isprintable())[:_LONGEST_DETAIL]
