"""Refusals: problem documents (RFC 9457), which say what is wrong and nothing of what is here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, Protocol

from starlette.responses import Response
from starlette.types import Scope

__all__ = ["MEDIA_TYPE", "Refusal", "Refusing", "as_problem", "problem"]

MEDIA_TYPE: Final = "application/problem+json"


class Refusal(Exception):  # noqa: N818  # it is answered, not raised to the caller
    """A request is not answered as it was asked.

    Args:
        status: The status code.
        detail: What is wrong, for who called; of what the caller sent at most names and positions. What
            the status stands for, if left out.
        reason: Why, for the audit log; `None` if it is nothing for that.
        headers: Of the answer.
        extra: What else the document says.
    """

    def __init__(
        self,
        status: int,
        detail: str | None = None,
        *,
        reason: str | None = None,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        self.status = status
        # OpenMeter's clients count on there being one.
        self.detail = detail or HTTPStatus(status).description or HTTPStatus(status).phrase
        super().__init__(self.detail)
        self.reason = reason
        self.headers = dict(headers or {})
        self.extra = extra


class Refusing(Protocol):
    """Makes the answer to a request that is refused."""

    def __call__(self, scope: Scope, refusal: Refusal, instance: str | None) -> Response:
        """The answer.

        Args:
            scope: The request.
            refusal: What is wrong.
            instance: What this very answer is called in the log.
        """


def as_problem(scope: Scope, refusal: Refusal, instance: str | None) -> Response:
    """A problem document, whoever asks."""
    return problem(
        refusal.status,
        refusal.detail,
        headers=refusal.headers,
        instance=instance,
        **refusal.extra,
    )


def problem(
    status: int,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    instance: str | None = None,
    **extra: Any,
) -> Response:
    """A problem document.

    Args:
        status: The status code.
        detail: What is wrong.
        headers: Of the answer.
        instance: What this very answer is called in the log.
        **extra: What else it says.
    """
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **({"instance": instance} if instance is not None else {}),
        **extra,
    }
    return Response(
        json.dumps(document), status_code=status, headers=headers, media_type=MEDIA_TYPE
    )
