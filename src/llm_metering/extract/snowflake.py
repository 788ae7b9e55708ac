"""Snowflake Cortex, its chat completions.

Source: https://docs.snowflake.com/en/user-guide/snowflake-cortex/open_ai_sdk. Counts as OpenAI
does. Where it has nothing to say it sends empty strings: an empty id, an empty `finish_reason`; its
streams name no `finish_reason` at all, and end with the usage in a chunk without choices. It cannot
be told from OpenAI.
"""

from __future__ import annotations

from typing import Final

from .dialect import Dialect

__all__ = ["DIALECT", "PROVIDER"]

PROVIDER: Final = "snowflake"
DIALECT: Final = Dialect(provider=PROVIDER)
