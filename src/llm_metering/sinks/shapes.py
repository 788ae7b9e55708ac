"""Wire shapes: what OpenMeter is sent in place of a recorded event, in the form its meters expect.

Sources:

- `kind`: one event for each kind of token, as OpenMeter's quickstart has its meters
  (`quickstart/config.yaml`: event type `prompt`, `$.tokens` grouped by `$.model` and `$.type`), with
  the kinds that its cost feature knows (`openmeter/productcatalog/feature/unitcost.go`), both of
  https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c.
- `openai`: OpenMeter's own OpenAI example, `examples/ingest-openai-node` before its removal in
  7812ce70d, and the meter beside it (event type `openai`, `$.total_tokens` by `$.model`); `tokens`
  is what later meters sum.
- `litellm`: `litellm/integrations/openmeter.py` of LiteLLM 1.109.1.

The journal and the ledger hold the `call` shape alone. A wire form is worked out anew from the
journal's bytes each time an event is offered, so it hangs on nothing but them: the same event gives
the same bytes under the same ids, today and after a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

import msgspec

from ..events import (
    DATA_KEYS,
    EVENT_TYPE,
    MEASURES,
    THRESHOLD_EVENT_TYPE,
    CloudEvent,
    format_time,
)
from ..token_usage import TokenUsage
from ._payload import UnusableEventError, read_event

__all__ = ["GROUP_KEYS", "NO_RESPONSE_ID", "SHAPES", "WireForm", "event_type_of", "wire_form"]

NO_RESPONSE_ID: Final = "no_response_id"
"""The flag of an event that was to go under its response id and has none."""

_CACHED: Final = (
    ("cache_read", "cache_read_input_tokens"),
    ("cache_write", "cache_creation_input_tokens"),
)
_REASONED: Final = (("reasoning", "reasoning_output_tokens"),)

GROUP_KEYS: Final = (
    *("model", "request_model", "provider", "operation", "service_tier", "framework"),
    *("provenance", "status", "count_method"),
)
"""What `kind` says of every kind of token, beside the dimensions."""
_TOKEN_KEYS: Final = frozenset(
    ["total_tokens", "prompt_tokens", "completion_tokens", *(f.name for f in fields(TokenUsage))]
)
_OF_THE_CALL: Final = _TOKEN_KEYS | MEASURES | {"calls"}

_Data = dict[str, Any]
_Split = Callable[[_Data], list[tuple[str, _Data]]]

_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class _Shape:
    """A shape other than `call`.

    Attributes:
        event_type: The CloudEvents `type` that its meters look for.
        split: Turns an event's `data` into that of each wire event, with the suffix of its id.
        most_events: The most wire events it makes of one call.
    """

    event_type: str
    split: _Split
    most_events: int


class WireForm:
    """Turns a recorded event into what is sent for it; made by `wire_form`.

    Attributes:
        most_events: The most wire events that one recorded event becomes.
    """

    def __init__(self, shape: _Shape | None, event_type: str | None, *, by_response: bool) -> None:
        self._shape = shape
        self._event_type = event_type
        self._by_response = by_response
        # One more for a quantity beside the tokens.
        self.most_events = 1 if shape is None else shape.most_events + 1

    def encode(self, payload: bytes) -> list[bytes]:
        """The wire events of a recorded one, in a fixed order; at least one, and no id twice.

        Args:
            payload: A CloudEvent in the `call` shape, as the journal holds it.

        Raises:
            UnusableEventError: If it is no CloudEvent; the message holds nothing of its content.
        """
        event = read_event(payload)
        try:
            return self._wire_events(event)
        except OverflowError:
            raise UnusableEventError("its time is none in UTC") from None
        except RecursionError:
            raise UnusableEventError("nested too deeply") from None

    def _wire_events(self, event: CloudEvent) -> list[bytes]:
        data, wire_id = event.data, event.id
        if event.type == THRESHOLD_EVENT_TYPE:
            # No usage: under the type of one, a meter that counts events would count it.
            return [_wire(event, wire_id, event.type, data)]
        if self._by_response:
            response_id = data.get("response_id")
            if isinstance(response_id, str) and response_id:
                wire_id = response_id
            else:
                data = _flagged(data)
        recorded_type = self._event_type or event.type
        if self._shape is None:
            return [_wire(event, wire_id, recorded_type, data)]
        if data.get("unit") is None:
            tokens, quantity = self._shape.split(data), []
        elif _TOKEN_KEYS.isdisjoint(data):
            # No call at all: only the `call` shape has words for it.
            tokens, quantity = [], [("", data)]
        else:
            beside = {key: value for key, value in data.items() if key not in _OF_THE_CALL}
            tokens, quantity = self._shape.split(data), [(":quantity", beside)]
        event_type = self._event_type or self._shape.event_type
        return [
            *(_wire(event, wire_id + suffix, event_type, part) for suffix, part in tokens),
            *(_wire(event, wire_id + suffix, recorded_type, part) for suffix, part in quantity),
        ]


def _wire(event: CloudEvent, wire_id: str, event_type: str, data: _Data) -> bytes:
    return _encode(
        {
            "specversion": "1.0",
            "id": wire_id,
            "source": event.source,
            "type": event_type,
            "subject": event.subject,
            "time": format_time(event.time),
            "data": data,
        }
    )


def _flagged(data: _Data) -> _Data:
    flags = data.get("flags")
    known = flags if isinstance(flags, list) else []
    return {**data, "flags": [*known, NO_RESPONSE_ID]}


def _count(data: _Data, key: str) -> int | None:
    value = data.get(key)
    return value if type(value) is int and value >= 0 else None


def _known(pairs: Iterable[tuple[str, Any]]) -> _Data:
    return {key: value for key, value in pairs if value is not None}


def _by_kind(data: _Data) -> list[tuple[str, _Data]]:
    common = _known((key, data.get(key)) for key in GROUP_KEYS)
    common |= {k: v for k, v in data.items() if k not in DATA_KEYS and isinstance(v, str)}
    # What belongs to the call as a whole goes with its first event alone: sums stay right.
    whole = _known((key, data.get(key)) for key in ("calls", *sorted(MEASURES)))
    kinds = [
        *_disjoint(data, "input", "input_tokens", _CACHED),
        *_disjoint(data, "output", "output_tokens", _REASONED),
    ]
    if not kinds:
        # Nobody knows how many tokens it took. A 0 would say that it took none.
        return [("", {**common, **whole})]
    first, *others = (
        (f":{kind}", {"tokens": tokens, "type": kind, **common}) for kind, tokens in kinds
    )
    first[1].update(whole)
    if "calls" in whole:
        # Not left out: OpenMeter lists an event without its meter's property as an invalid one.
        for _, other in others:
            other["calls"] = 0
    return [first, *others]


def _disjoint(
    data: _Data, whole_kind: str, whole_key: str, part_keys: Iterable[tuple[str, str]]
) -> list[tuple[str, int]]:
    """The kinds of one side, the rest first, whose sum is the whole wherever that is known."""
    whole = _count(data, whole_key)
    parts = [(kind, count) for kind, key in part_keys if (count := _count(data, key))]
    if whole is None:
        return parts
    rest = whole - sum(count for _, count in parts)
    if rest < 0:
        # The provider contradicts itself. Its total is what it bills by, so that stays whole.
        return [(whole_kind, whole)]
    return [(whole_kind, rest), *parts]


def _as_openai(data: _Data) -> list[tuple[str, _Data]]:
    total = _count(data, "total_tokens")
    return [
        (
            "",
            _known(
                [
                    ("total_tokens", total),
                    ("prompt_tokens", _count(data, "input_tokens")),
                    ("completion_tokens", _count(data, "output_tokens")),
                    ("model", data.get("model")),
                    ("tokens", total),
                ]
            ),
        )
    ]


def _as_litellm(data: _Data) -> list[tuple[str, _Data]]:
    return [
        (
            "",
            _known(
                [
                    ("model", data.get("model")),
                    ("cost", data.get("reported_cost")),
                    ("prompt_tokens", _count(data, "input_tokens")),
                    ("completion_tokens", _count(data, "output_tokens")),
                    ("total_tokens", _count(data, "total_tokens")),
                ]
            ),
        )
    ]


_SHAPES: Final[Mapping[str, _Shape | None]] = {
    "call": None,
    "kind": _Shape("prompt", _by_kind, most_events=5),
    "openai": _Shape("openai", _as_openai, most_events=1),
    "litellm": _Shape("litellm_tokens", _as_litellm, most_events=1),
}

SHAPES: Final = tuple(_SHAPES)
"""The names of the shapes; the first is the journal's own."""


def event_type_of(shape: str) -> str:
    """The CloudEvents `type` of what a shape sends for a call.

    >>> event_type_of("call"), event_type_of("kind")
    ('llm.usage', 'prompt')
    """
    known = _SHAPES[shape]
    return EVENT_TYPE if known is None else known.event_type


def wire_form(
    shape: str = "call", *, event_type: str | None = None, event_id: str = "call"
) -> WireForm | None:
    """How events are sent, or `None` where the journal's bytes are sent as they are.

    Args:
        shape: One of `SHAPES`.
        event_type: The CloudEvents `type` of all events; the shape's own if left out.
        event_id: `response` sends an event under its provider's response id, if it has one.
    """
    by_response = event_id == "response"
    if shape == "call" and event_type is None and not by_response:
        return None
    return WireForm(_SHAPES[shape], event_type, by_response=by_response)
