"""Text files to documents, pairs, masks and batches."""
