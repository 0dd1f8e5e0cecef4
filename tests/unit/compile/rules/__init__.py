"""Tests of compile.rules: hits, near misses and a numeric check for every rule."""
