"""One room a task, and what all tasks share."""
