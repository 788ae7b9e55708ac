"""`Meter`: everything wired together."""

from .asking import FLUSH_TIMEOUT
from .recording import StreamT
from .wired import DRAIN_TIMEOUT, EXIT_TIMEOUT, Meter

__all__ = ["DRAIN_TIMEOUT", "EXIT_TIMEOUT", "FLUSH_TIMEOUT", "Meter", "StreamT"]
