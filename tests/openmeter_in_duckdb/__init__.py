"""OpenMeter's query API a second time, for tests alone: what the back ends of usage are held against.

It shares no code with the package: its own HTTP, its own reading of OpenMeter's documents, and its
own SQL over raw events, in DuckDB, whose time zones are ICU's. Source:
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c.
"""

from .engine import DuckDBEngine
from .server import QueryServer

__all__ = ["DuckDBEngine", "QueryServer"]
