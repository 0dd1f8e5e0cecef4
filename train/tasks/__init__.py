"""What is trained: pretraining and the fine-tuning tasks."""
