"""Running: an artifact to answers."""
