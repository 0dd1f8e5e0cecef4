"""Training: raw text to a checkpoint directory."""
