"""How a task is asked and answers outside Python: by HTTP, and by rows of tables."""
