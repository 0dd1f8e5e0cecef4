"""python -m runtime.bench: engines side by side in one run."""
