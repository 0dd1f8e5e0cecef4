"""Checkpoint to a fused float graph, compared with PyTorch."""
