"""What depends on the task."""
