"""What providers and frameworks report, turned into `TokenUsage`; one module a shape."""
