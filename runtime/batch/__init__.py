"""python -m runtime.batch: files of any size, row by row, to results."""
