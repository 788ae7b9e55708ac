"""SageMaker's InvokeEndpoint, to which a model of the user's own answers.

Source: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html
"""

from __future__ import annotations

from typing import Any

from .calls import Call

__all__ = ["answer", "error"]


def answer(call: Call) -> tuple[Any, str]:
    """What an endpoint says, whatever it is made of: here text, and no counts."""
    text = "".join(piece.text for piece in call.pieces())
    return [{"generated_text": text}], text


def error(call: Call, status: int) -> dict[str, Any]:
    """The body of a refusal."""
    return {"message": "no"}
