"""`llm-metering` under the name by which LlamaIndex's users look for it; all of it is there."""

from llm_metering import install, subject, uninstall
from llm_metering.llamaindex import MeteringHandler, bind, metered_stream

__all__ = ["MeteringHandler", "bind", "install", "metered_stream", "subject", "uninstall"]
