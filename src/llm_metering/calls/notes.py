"""`OpenNotes`: what is left of a call that starts, to be its event if this process dies."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from ..events import check_dimensions, encode, format_time, new_event_id
from ..subjects import Attribution, Rank
from .values import CallStart, interrupted_event

__all__ = ["OpenNotes"]

_KEPT: Final = 256
"""Forms of notes: as many as an application asks different models in different ways."""

_Asked = tuple[str | None, str | None, str | None, str | None]
_Parts = tuple[bytes, bytes, bytes, bytes, bytes]

_json: Final = msgspec.json.Encoder().encode


class OpenNotes:
    """Writes `encode(interrupted_event(...))`, byte for byte, in a third of the time.

    Between two calls little differs: the rest of the JSON is kept, cut where that stands. With the
    event itself made, checked and encoded a note takes 1.5 µs, this way 0.5 (2 vCPU AMD EPYC VM).

    Args:
        source: The CloudEvents source of the events.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._forms: dict[_Asked, _Parts] = {}

    def write(
        self,
        event_id: str,
        start: CallStart,
        attribution: Attribution,
        now: datetime,
        reservation_id: str | None = None,
    ) -> bytes:
        """The note of a call.

        Args:
            event_id: The id of its event.
            start: How it began.
            attribution: Who pays.
            now: When.
            reservation_id: What is reserved for it.
        """
        run_id = start.run_id
        if run_id is None or start.service_tier is not None:
            return encode(
                interrupted_event(event_id, self._source, start, attribution, now, reservation_id)
            )
        asked = start.operation, start.provider, start.request_model, start.framework
        before, between, until_time, data, end = self._forms.get(asked) or self._form(asked, now)
        dimensions = attribution.dimensions
        if attribution.flags:
            end = b',"flags":' + _json(attribution.flags) + end
        if reservation_id is not None:
            end = b',"reservation_id":' + _json(reservation_id) + end
        if dimensions:
            check_dimensions(dimensions)
            end = end[:-2] + b"," + _json(dimensions)[1:-1] + b"}}"
        return b"".join(
            (
                before,
                event_id.encode(),
                between,
                _json(attribution.subject),
                until_time,
                format_time(now).encode(),
                data,
                _json(run_id),
                end,
            )
        )

    def _form(self, asked: _Asked, now: datetime) -> _Parts:
        # Nobody else has these: they stand where they were put, and nowhere else.
        event_id, subject, run_id = new_event_id(), new_event_id(), new_event_id()
        operation, provider, request_model, framework = asked
        payer = Attribution(subject=subject, rank=Rank.HANDLER)
        start = CallStart(
            attribution=payer,
            operation=operation,
            provider=provider,
            request_model=request_model,
            framework=framework,
            run_id=run_id,
        )
        payload = encode(interrupted_event(event_id, self._source, start, payer, now))
        before, _, rest = payload.partition(event_id.encode())
        between, _, rest = rest.partition(_json(subject))
        # Right behind the subject; what a string of the data holds has its quotes escaped.
        until_time, _, rest = rest.partition(format_time(now).encode())
        data, _, end = rest.partition(_json(run_id))
        if len(self._forms) >= _KEPT:
            self._forms.clear()
        parts = self._forms[asked] = before, between, until_time, data, end
        return parts
