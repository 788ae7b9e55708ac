"""`llm-metering usage`: its options, whom it asks, and how the answers look."""
