"""`MeteringHandler`: what LangChain says, told to the call table.

Read in langchain-core 1.7.2, `langchain_core/callbacks/base.py` and `callbacks/manager.py`.
"""

from __future__ import annotations

import logging
import sys
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from msgspec.structs import replace

from ..calls import CallStart, Key, current_task
from ..default_meter import current_meter, get_meter, limited_meter
from ..errors import CallRefusedError, MissingExtraError
from ..extract.reading import name_of
from ..meter import Meter
from ..subjects import Rank, attribute, check_subject, plain_dimensions
from .advice import advise
from .answers import model_in
from .batches import End, batch_of, end_in_batch
from .default_meters import latest_meter, meter_that_knows, remember_meter
from .ends import read_end
from .refusing import refusal_of
from .results import operation_of
from .run_ids import key_of
from .seen import Seen
from .streaming import take_event, take_token
from .tapping import begin

try:
    from .gating import Begun
    from .metadata import enclosing_metadata
    from .starts import HearsStarts
except ImportError as error:
    raise MissingExtraError("langchain-core", "langchain") from error

if TYPE_CHECKING:
    from langchain_core.outputs import LLMResult

__all__ = ["MeteringHandler"]

logger = logging.getLogger("llm_metering")

_handlers: weakref.WeakValueDictionary[str, MeteringHandler] = weakref.WeakValueDictionary()


class MeteringHandler(HearsStarts):
    """Meter every LLM call of the LangChain objects it is given to.

    The handler holds no state of its own: any number of them, and the global one of
    `install()`, see to it together that a call is billed once. It can be shared by threads
    and event loops, hashed, copied and pickled; a copy is the handler itself, and what is
    unpickled in another process records with that process's default meter. A failure to meter
    never reaches the application; it is counted in `status` as one of `failures`. Where the meter
    has `on_missing_subject="raise"`, a call that nobody pays for is refused before it is made.

    Args:
        subject: Who pays; without it, run metadata, `subject()` and the process's default say.
        meter: Where to record; the process's default meter, if left out.
        enforce: Whether calls are refused that the payer's balance does not cover.
        **dimensions: Strings to group usage by.

    Raises:
        ConfigurationError: If calls are to be refused, and limits are off in the meter.
        MeteringError: If the subject or a dimension is not usable, or the default meter
            cannot be made of the settings there are.
    """

    # LangChain runs other sync handlers of async calls in the executor of the event loop: that
    # costs some hundred microseconds a call, waits when the executor is full, and loses the end
    # of a call while the loop shuts down (`callbacks/manager.py`, `_ahandle_event_for_handler`).
    run_inline = True

    # What is around a call is heard out only for its end: some calls end in no other way.
    # Attributes, as LangChain asks for one before each hook; its own are properties.
    ignore_llm = False
    ignore_chat_model = False
    ignore_chain = False
    ignore_agent = False
    ignore_retriever = False
    ignore_retry = True
    ignore_custom_event = True

    def __init__(
        self,
        subject: str | None = None,
        *,
        meter: Meter | None = None,
        enforce: bool = False,
        **dimensions: str,
    ) -> None:
        super().__init__()
        if subject is not None:
            subject = check_subject(subject)
        if enforce:
            (meter or limited_meter()).require_limits()
        self._introduce(uuid4().hex, subject, meter, plain_dimensions(dimensions), enforce=enforce)
        # Here, so that a setting that is wrong is told now and not swallowed during a call;
        # and so that what an earlier process left begins to be shipped.
        self._meter.start()

    def _introduce(
        self,
        name: str,
        subject: str | None = None,
        meter: Meter | None = None,
        dimensions: Mapping[str, str] | None = None,
        *,
        enforce: bool = False,
    ) -> None:
        self._name = name
        self._enforce = enforce
        self._subject = subject
        self._own_meter = meter
        self._dimensions = dict(dimensions or {})
        _handlers[name] = self

    def __repr__(self) -> str:
        return f"MeteringHandler({self._subject!r})"

    def __copy__(self) -> MeteringHandler:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> MeteringHandler:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._name, self._subject, self._dimensions, self._enforce)

    @property
    def raise_error(self) -> bool:  # type: ignore[override]  # LangChain only reads it
        """Whether LangChain lets pass what a hook has just raised: the refusal of a call alone."""
        # It asks while it handles the error (`callbacks/manager.py`, `handle_event` and
        # `_ahandle_event_for_handler`), so that whatever else should escape us stops there.
        return isinstance(sys.exception(), CallRefusedError)

    @property
    def _meter(self) -> Meter:
        return self._own_meter or get_meter()

    @property
    def _is_enforcing(self) -> bool:
        """Whether it holds calls to balances."""
        if self._enforce:
            return True
        meter = self._own_meter or current_meter()
        return meter is not None and meter.settings.enforce

    _accepts_calls = True
    """Whether it is to be told of new calls."""

    def _meter_of(self, key: Key) -> Meter | None:
        """The meter that a call was begun with; the present one, if none knows the call."""
        if self._own_meter is not None:
            return self._own_meter
        meter = meter_that_knows(key)
        if meter is not None:
            return meter
        # LangChain goes on calling a handler that is switched off, which must make no new meter
        # after the user has closed the last one.
        return get_meter() if self._accepts_calls else None

    def _note_failure(self, where: str, error: Exception) -> None:
        # The latest meter stands in for a default meter that could not be made.
        meter = self._own_meter or latest_meter()
        if meter is None:
            logger.error("metering failed in %s: %s", where, type(error).__name__)
        else:
            meter.note_failure(where, error)

    def on_llm_new_token(
        self,
        token: str | list[str | dict[str, Any]],
        *,
        chunk: object = None,
        run_id: UUID,
        **kwargs: Any,
    ) -> None:
        """A piece of a stream arrived."""
        try:
            key = key_of(run_id)
            meter = self._own_meter or self._meter_of(key)
            if meter is not None:
                take_token(meter.calls_heard, key, token, chunk, self._name)
        except Exception as error:
            self._note_failure("on_llm_new_token", error)

    def on_stream_event(self, event: Mapping[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
        """An event of a v3 stream arrived."""
        try:
            key = key_of(run_id)
            meter = self._meter_of(key)
            if meter is not None:
                take_event(meter.calls_heard, key, event, self._name)
        except Exception as error:
            self._note_failure("on_stream_event", error)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """A model answered."""
        self._end("on_llm_end", None, response, run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """A call failed, was refused, or was left by its consumer."""
        self._end("on_llm_error", error, kwargs.get("response"), run_id)

    # Here and below no `Guard`: `try` costs nothing, and these run for every call.
    def _start(
        self,
        operation: str,
        request: object,
        messages: Sequence[Any] | None,
        run_id: UUID,
        kwargs: dict[str, Any],
        flags: tuple[str, ...] = (),
        model: object = None,
    ) -> Begun | CallRefusedError | None:
        """Tell of the start; an error that is returned is to be raised, and then nothing was told."""
        if not self._accepts_calls:
            return None
        try:
            meter = self._own_meter
            if meter is None:
                meter = get_meter()
                remember_meter(meter)
            metadata: Mapping[str, Any] = kwargs.get("metadata") or {}
            attribution = attribute(
                handler=self._subject,
                metadata=metadata,
                enclosing=enclosing_metadata,
                default=meter.subject,
                dimensions=self._dimensions,
                rules=meter.rules,
            )
            key = key_of(run_id)
            parameters = kwargs.get("invocation_params")
            batch = batch_of(key, parameters, kwargs.get("batch_size"))
            provider = name_of(metadata.get("ls_provider"))
            request_model = name_of(metadata.get("ls_model_name")) or model_in(parameters)
            if flags:
                # It was made already.
                attribution = replace(attribution, flags=(*attribution.flags, *flags))
            elif attribution.rank is Rank.NOBODY or batch is not None or attribution.watchers:
                refusal = refusal_of(
                    meter, attribution, key, request, parameters, batch, provider, request_model
                )
                if refusal is not None:
                    return refusal
            parent = kwargs.get("parent_run_id")
            gate = meter.gate if not flags and self._is_enforcing else None
            seen = Seen(
                operation,
                provider=provider,
                model=model,
                parameters=parameters,
                batch=batch,
                messages=messages,
            )
            tapped = begin(meter, request, provider, seen, kwargs)
            if tapped is not None:
                attribution = tapped.paid_by(attribution)
                if gate is not None and gate.covers(tapped.reservation_around, attribution.subject):
                    gate = None
            start = CallStart(
                attribution=attribution,
                framework="langchain",
                operation=operation,
                provider=provider,
                request_model=request_model,
                run_id=str(run_id),
                request=request,
                asked=seen.asked,
                so_far=seen.so_far,
                teller=self._name,
                parent=None if parent is None else key_of(parent),
                batch=batch,
                task=current_task(),
                kept=seen,
            )
            if gate is not None:
                limit = gate.output_limit(parameters, metadata)
                start = replace(start, reservation=gate.prepare(), output_limit=limit)
            call = meter.calls.start(key, start)
            if tapped is not None:
                tapped.reservation = call.reservation
            if call.reservation is not None and not flags:
                return Begun(meter, gate, call, key, request, parameters, batch)
        except Exception as error:
            self._note_failure("on_llm_start", error)
        return None

    def _end(
        self, hook: str, error: BaseException | None, response: LLMResult | None, run_id: UUID
    ) -> None:
        try:
            key = key_of(run_id)
            meter = self._meter_of(key)
            if meter is None:
                return
            calls = meter.calls
            call = calls.get(key, self._name)
            seen: Seen | None = None if call is None else call.start.kept
            outcome, report = read_end(meter, hook, key, call, error, response)
            if call is None or seen is None:
                if not calls.knows(key):
                    # LangChain gives ends without starts, for example to a handler that is not
                    # inline beside one that is:
                    # https://github.com/langchain-ai/langchain/issues/39633
                    # What the run's metadata said is lost then, its subject too.
                    flags = ("start_missing",)
                    self._start(operation_of(response), response, None, run_id, {}, flags)
                calls.end(key, outcome, report, teller=self._name)
                return
            if seen.batch is None:
                calls.end(key, outcome, report, teller=self._name)
            else:
                end = End(key, outcome, report, error, getattr(response, "llm_output", None))
                end_in_batch(calls, seen.batch, seen.operation, end, teller=self._name)
            if report.usage is None and outcome == "completed":
                advise(seen, is_streamed=call.first_piece is not None)
        except Exception as failure:
            self._note_failure(hook, failure)


def _restore(
    name: str, subject: str | None, dimensions: dict[str, str], enforce: bool = False
) -> MeteringHandler:
    """Unpickle: the handler itself where it lives, in another process one like it."""
    return _handlers.get(name) or MeteringHandler(
        subject, meter=None, enforce=enforce, **dimensions
    )
