"""Refusals: problem documents (RFC 9457), which say what is wrong and nothing of what is here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import Response

__all__ = ["MEDIA_TYPE", "Refusal", "problem"]

MEDIA_TYPE: Final = "application/problem+json"


class Refusal(Exception):  # noqa: N818  # it is answered, not raised to the caller
    """A request is not answered as it was asked.

    Args:
        status: The status code.
        detail: What is wrong, for who called; of what the caller sent at most names and positions.
        reason: Why, for the audit log; `None` if it is nothing for that.
        headers: Of the answer.
        extra: What else the document says.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        reason: str | None = None,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.reason = reason
        self.headers = dict(headers or {})
        self.extra = extra

    def response(self, *, instance: str | None = None) -> Response:
        """The answer."""
        return problem(
            self.status, self.detail, headers=self.headers, instance=instance, **self.extra
        )


def problem(
    status: int,
    detail: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    instance: str | None = None,
    **extra: Any,
) -> Response:
    """A problem document.

    Args:
        status: The status code.
        detail: What is wrong; what the status stands for, if left out.
        headers: Of the answer.
        instance: What this very answer is called in the log.
        **extra: What else it says.
    """
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        # OpenMeter's clients count on there being one.
        "detail": detail or HTTPStatus(status).description or HTTPStatus(status).phrase,
        **({"instance": instance} if instance is not None else {}),
        **extra,
    }
    return Response(
        json.dumps(document), status_code=status, headers=headers, media_type=MEDIA_TYPE
    )
