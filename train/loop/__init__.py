"""Runs an objective step by step: state, journal, rates, processes, signals."""
