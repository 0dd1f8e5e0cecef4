"""Extractive summarization: the sentences of a document that sum it up."""
