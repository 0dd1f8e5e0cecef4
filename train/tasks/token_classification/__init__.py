"""Fine-tuning for labels of words."""
