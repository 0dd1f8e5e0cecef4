"""Tests of compile.graph.rules: hits, near misses and a numeric check for every rule."""
