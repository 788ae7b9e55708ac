"""What LangChain says of a call that raised: how it ended, and what it had used by then.

An answer may be billed and end in an error all the same: a structured answer that was cut by its
length (openai 3.54.0, `_exceptions.py`, `LengthFinishReasonError`), a stream that broke, a consumer
that left. What the application is not given is in what LangChain made of the exception
(langchain-core 1.7.2, `language_models/chat_models.py`, `_generate_response_from_error`), in the
exception itself, or in the chunks that were seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from ..calls import Outcome, Report, outcome_of
from ..extract.error_bodies import reading_of_error
from ..extract.reading import Reading
from .answers import Answer, generations_of, mapping
from .results import found_in
from .seen import Seen, is_finished
from .texts import output_of
from .usages import NOTHING_FOUND, Found

if TYPE_CHECKING:
    from langchain_core.outputs import LLMResult

__all__ = ["outcome_of_run", "report_of_error"]


def outcome_of_run(error: BaseException) -> tuple[Outcome, str]:
    """The outcome of a call that raised `error`, and for a refusal the status code."""
    try:
        return outcome_of(error)
    except Exception:
        # A property of somebody else's exception may do anything.
        return "failed", ""


def report_of_error(
    error: BaseException, response: LLMResult | None, seen: Seen | None
) -> tuple[Outcome, Report]:
    """How a call ended that raised, and what is known of it.

    Args:
        error: What it raised.
        response: What `on_llm_error` got besides, if anything: the chunks of a stream as one
            message, then a message made of the HTTP response of the error.
        seen: What was seen of the call before; `None` if its start was not.
    """
    outcome, reason = outcome_of_run(error)
    if outcome == "aborted" and seen is not None and seen.is_over:
        # An event loop that ends when all of a v3 stream was read cancels the task that would
        # have told of the end (`language_models/chat_model_stream.py`).
        outcome = "completed"
    answer = Answer(response)
    if answer.is_marked_as_cached:
        # What failed is what was to be done with the answer.
        return outcome, Report(cached=True, model=answer.model, response_id=answer.response_id)
    # The chunks first: LangChain's message lacks the one that was being delivered.
    found = NOTHING_FOUND if seen is None else seen.found()
    if found.usage is None:
        found = found_in(answer, seen).flagged(*found.flags)
    tier, flags = answer.served_on(found.flags)
    report = Report(
        usage=found.usage,
        is_final=is_finished(answer.metadata) or (seen is not None and seen.is_finished),
        model=answer.model or (None if seen is None else seen.answered_by),
        response_id=answer.response_id,
        service_tier=tier,
        output=lambda: output_of(response),
        flags=flags,
        reason=reason,
        # LangChain itself always hands one over. Who tells the handlers of an error without one is
        # an integration, and it may tell of the end with its usage next: ChatBedrock, where a
        # guardrail intervenes (langchain-aws 1.9.1, `llms/bedrock.py`).
        is_last=response is not None,
    )
    if report.usage is None or not report.is_final:
        report = _completed(report, reading_of_error(error, *_bodies_of(response)))
    found = Found(report.usage, report.flags).judged(has_answer=answer.has_output)
    if outcome == "refused" and found.usage is not None and not any(found.usage.counts().values()):
        # A refusal that says so: nothing was used.
        found = NOTHING_FOUND
    return outcome, replace(report, usage=found.usage, flags=found.flags)


def _completed(report: Report, reading: Reading | None) -> Report:
    """The report, with what the body of the answer says besides."""
    if reading is None:
        return report
    return replace(
        report,
        usage=reading.usage,
        is_final=reading.is_final,
        model=report.model or reading.model,
        response_id=report.response_id or reading.response_id,
        service_tier=report.service_tier or reading.service_tier,
        created=reading.created,
        measures=reading.measures,
        flags=(*report.flags, *reading.flags),
    )


def _bodies_of(response: object) -> list[object]:
    """The body of the HTTP response of the error, as LangChain keeps it in a message."""
    return [
        mapping(getattr(getattr(generation, "message", None), "response_metadata", None)).get(
            "body"
        )
        for generation in generations_of(response)
    ]
