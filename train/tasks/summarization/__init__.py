"""Fine-tuning for extractive summarization."""
