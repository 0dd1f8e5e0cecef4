"""Engines that write: what reads sources and takes the steps of their targets."""
