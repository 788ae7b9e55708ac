"""For notebooks: `%load_ext llm_metering` brings `%%metered`, and `watch` shows usage as it grows."""

from .summary import CellUsage
from .watching import Watch, watch

__all__ = ["CellUsage", "Watch", "watch"]
