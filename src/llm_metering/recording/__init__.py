"""Metering without a framework: responses, streams and other units that the user hands over."""

from .arguments import check_name, model_of, snapshot
from .records import ResponseRecorder
from .streams import AsyncMeteredStream, MeteredStream, meter_stream

__all__ = [
    "AsyncMeteredStream",
    "MeteredStream",
    "ResponseRecorder",
    "check_name",
    "meter_stream",
    "model_of",
    "snapshot",
]
