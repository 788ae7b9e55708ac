"""Files of JSON lines: the sink, and reading back what it wrote."""

from .reading import EventReader, read_events
from .sink import JSONLinesSink, from_url

__all__ = ["EventReader", "JSONLinesSink", "from_url", "read_events"]
