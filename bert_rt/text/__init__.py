"""Text to tokens with their spans."""
