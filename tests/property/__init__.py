"""Tests of bert-rt."""
