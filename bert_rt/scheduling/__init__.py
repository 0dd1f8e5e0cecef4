"""Whose turn it is at the engine: one queue without threads, and the threads over it."""
