"""The artifact directory, read, checked and written."""
