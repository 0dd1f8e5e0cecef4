"""Compiling: a checkpoint directory to an artifact."""
