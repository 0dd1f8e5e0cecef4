"""Makes questions without an answer of those that have one."""
