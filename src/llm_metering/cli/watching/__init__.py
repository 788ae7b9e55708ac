"""`--watch`: looking again and again, and what has changed meanwhile."""
