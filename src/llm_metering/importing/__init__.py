"""Getting usage into the ledger: `import_file` takes CloudEvents and what providers report."""

from ..ledger.staging_values import Sum
from .running import Imported, import_file

__all__ = ["Imported", "Sum", "import_file"]
