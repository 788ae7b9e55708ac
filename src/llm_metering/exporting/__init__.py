"""Getting events out of the ledger: `export_events` writes JSON lines, CSV or Parquet."""

from .running import Exported, export_events
from .writers import ExportFormat

__all__ = ["ExportFormat", "Exported", "export_events"]
