"""The transport: events go to a file first, and from there to every sink, for as long as it takes."""
