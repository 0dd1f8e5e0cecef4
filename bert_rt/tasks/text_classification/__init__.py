"""A text to classes with scores."""
