"""`llm-metering top`: the largest users of a period."""
