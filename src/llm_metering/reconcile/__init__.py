"""What a server counts, compared with what was recorded."""
