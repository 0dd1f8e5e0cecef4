"""Question and passage to an answer with its span."""
