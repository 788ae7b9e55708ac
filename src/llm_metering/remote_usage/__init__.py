"""The second back end of usage: an OpenMeter server, asked for what its meters count.

The answer is the report that the ledger gives, so that both can be asked alike.
"""

from .server import RemoteUsage

__all__ = ["RemoteUsage"]
