"""Events that other hosts sent, taken from a broker into a ledger."""
