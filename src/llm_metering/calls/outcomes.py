"""How a call ended that raised."""

from __future__ import annotations

import asyncio
from typing import Final

from .values import Outcome

__all__ = ["outcome_of"]

_DEEPEST: Final = 3
"""As many errors that one was raised from are looked at; they could go round in a circle."""


def outcome_of(error: BaseException) -> tuple[Outcome, str]:
    """The outcome of a call that raised `error`, and for a refusal the status code.

    The SDKs of OpenAI, Anthropic, Mistral, Cohere and others carry the status of a refusal as
    `status_code` (openai 3.54.0, `openai/_exceptions.py`, `APIStatusError`), google-genai as `code`
    (3.4.0, `google/genai/errors.py`, `APIError`), botocore in `response["ResponseMetadata"]`
    (1.44, `botocore/exceptions.py`, `ClientError`), aiohttp as `status`, httpx in its `response`.
    langchain-google-genai (4.4.2, `chat_models.py`, `_handle_client_error`) raises one of its own,
    which has no status, from that of the SDK.
    """
    if isinstance(error, GeneratorExit | asyncio.CancelledError | KeyboardInterrupt | SystemExit):
        return "aborted", ""
    status = _status_of(error)
    cause = error.__cause__
    for _ in range(_DEEPEST):
        if status is not None or cause is None:
            break
        status, cause = _status_of(cause), cause.__cause__
    # 408 is a request that timed out on its way: whether it was worked on nobody knows.
    if status is not None and 400 <= status < 500 and status != 408:
        return "refused", str(status)
    return "failed", ""


def _status_of(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    for holder, name in (
        (error, "status_code"),
        (error, "code"),
        (error, "status"),
        (response, "status_code"),
    ):
        status = getattr(holder, name, None)
        # Others number their own codes from 1, or from 1000.
        if isinstance(status, int) and 400 <= status < 600:
            return int(status)
    metadata = response.get("ResponseMetadata") if isinstance(response, dict) else None
    status = metadata.get("HTTPStatusCode") if isinstance(metadata, dict) else None
    return status if type(status) is int else None
