"""Private helpers: command lines, progress, files, strict JSON."""
