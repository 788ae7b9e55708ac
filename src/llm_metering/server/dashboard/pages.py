"""`Pages`: templates made into answers.

A page loads its style and its script from this server and nothing from anywhere else; no style and no script
stands in it. Every text of events and people is escaped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import jinja2
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.types import Scope

from ..callers import Caller
from ..paths import is_portal, wants_page
from ..problems import Refusal, as_problem
from .assets import asset
from .drawing import Drawing
from .words import Words

__all__ = ["HEADERS", "Content", "Pages"]

logger = logging.getLogger("llm_metering")

Content = Mapping[str, Any]
"""What a template is given."""

PATIENCE: Final = 0.8
"""Seconds after which a reader is told that the answer is being worked out."""

_MARK: Final = "<!-- the answer -->"
_UNKNOWN: Final = 401

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    # Not `no-referrer`, with which browsers do not say where a form comes from.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Vary": "Accept-Language, Cookie",
}


class Pages:
    """The pages of a server.

    Attributes:
        drawing: Draws the charts on them.
    """

    def __init__(self) -> None:
        self.drawing = Drawing()
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals["asset"] = asset
        self._version = version("llm-metering")

    def __repr__(self) -> str:
        return f"<Pages {self._version}>"

    def words(self, request: Request) -> Words:
        """Those of the reader."""
        return Words.for_header(request.headers.get("accept-language", ""))

    async def page(
        self, request: Request, template: str, content: Content, *, status: int = 200
    ) -> Response:
        """A page; made in a thread, since what comes in meanwhile is not to wait for it.

        Args:
            request: Who asks.
            template: The name of its template, without endings.
            content: What the template is given.
            status: The status code.
        """
        text = await run_in_threadpool(self._text, request, template, content)
        return HTMLResponse(text, status_code=status, headers=HEADERS)

    async def answer(
        self,
        request: Request,
        template: str,
        content: Content,
        work: Callable[[], Awaitable[Content]],
    ) -> Response:
        """A page with what has to be worked out; where that takes a while, its head comes first.

        Args:
            request: Who asks.
            template: The name of its template.
            content: What is known already.
            work: Works out the rest.

        Raises:
            Refusal: If that is refused before the reader was shown anything.
        """
        task = asyncio.ensure_future(work())
        try:
            done, _ = await asyncio.wait({task}, timeout=PATIENCE)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if done:
            return await self.page(request, template, {**content, **task.result()})
        pieces = self._pieces(request, template, content, task)
        return StreamingResponse(pieces, media_type="text/html; charset=utf-8", headers=HEADERS)

    def refused(self, scope: Scope, refusal: Refusal, instance: str | None) -> Response:
        """The answer to who is refused: a page for people, a problem document for programs."""
        request = Request(scope)
        path = request.url.path
        if not wants_page(scope["path"], request.headers):
            return as_problem(scope, refusal, instance)
        if refusal.status == _UNKNOWN and not is_portal(path) and request.method == "GET":
            asked = path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"/login?{urlencode({'next': asked})}", status_code=303)
        headers = {
            name: value for name, value in refusal.headers.items() if name != "WWW-Authenticate"
        }
        text = self._text(request, "error", _problem(refusal, instance))
        return HTMLResponse(text, status_code=refusal.status, headers={**HEADERS, **headers})

    async def _pieces(
        self, request: Request, template: str, content: Content, task: asyncio.Future[Content]
    ) -> AsyncIterator[str]:
        yield self._text(request, "loading", content).partition(_MARK)[0]
        try:
            found = await task
            text = await run_in_threadpool(self._text, request, template, {**content, **found})
        except Refusal as refusal:
            text = self._text(request, "error", {**content, **_problem(refusal, None)})
        except Exception as error:
            # Not its message, which may quote what was sent.
            logger.error("a page failed: %s", type(error).__name__)  # noqa: TRY400
            text = self._text(request, "error", {**content, **_problem(Refusal(500), None)})
        finally:
            task.cancel()
        yield text.partition(_MARK)[2]

    def _text(self, request: Request, template: str, content: Content) -> str:
        state = request.scope.get("state", {})
        caller: Caller = state.get("caller") or Caller()
        page = self._templates.get_template(f"{template}.html.jinja")
        return page.render(
            words=self.words(request),
            caller=caller,
            path=request.url.path,
            version=self._version,
            mark=_MARK,
            **{"for_customer": is_portal(request.url.path), "problem": None, **content},
        )


def _problem(refusal: Refusal, instance: str | None) -> Content:
    return {"refusal": refusal, "instance": instance}
