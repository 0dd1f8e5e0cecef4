"""Rewrite rules, one fusion a file.

Each rule has a pattern (what it looks for), a check (what must hold besides the shape of the
graph) and a rewrite (what takes its place). `compile.graph.fuse` runs them in order and counts.
"""
