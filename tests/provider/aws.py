"""Bedrock's InvokeModel for Amazon's Titan, and SageMaker's InvokeEndpoint.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html,
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-text.html,
`model-parameters-titan-embed-text.html`, `guardrails-use-invoke-api.html`, and
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html. The
headers with the counts are those that langchain-aws 1.9.1 reads, `llms/bedrock.py`,
`LLMInputOutputAdapter.prepare_output`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .calls import Call

__all__ = ["endpoint", "error", "headers", "invoke"]


def invoke(call: Call) -> tuple[dict[str, Any], str]:
    """What a Titan model says, to an embedding or to a prompt."""
    if embeds(call):
        counts = {} if call.has("nousage") else {"inputTextTokenCount": call.input}
        return {"embedding": [0.25, 0.5, float(call.entry.number)], **counts}, ""
    text = "".join(piece.text for piece in call.pieces())
    result = {"tokenCount": call.output, "outputText": text, "completionReason": "FINISH"}
    body: dict[str, Any] = {"inputTextTokenCount": call.input, "results": [result]}
    if call.has("guardrail"):
        body["amazon-bedrock-guardrailAction"] = "INTERVENED"
        body["amazon-bedrock-trace"] = {"guardrail": {"input": {}}}
    return body, text


def headers(call: Call) -> Mapping[str, str]:
    """What is told of the counts beside the body."""
    if call.has("noheaders", "nousage"):
        return {}
    told = {"x-amzn-bedrock-input-token-count": str(call.input)}
    return told if embeds(call) else {**told, "x-amzn-bedrock-output-token-count": str(call.output)}


def embeds(call: Call) -> bool:
    """Whether this asks for embeddings."""
    return "embed" in call.base


def endpoint(call: Call) -> tuple[Any, str]:
    """What an endpoint of SageMaker says, whatever it is made of: here text, and no counts."""
    text = "".join(piece.text for piece in call.pieces())
    return [{"generated_text": text}], text


def error(call: Call, status: int) -> dict[str, Any]:
    """The body of a refusal."""
    return {"message": "no"}
