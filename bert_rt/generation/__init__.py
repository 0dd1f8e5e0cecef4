"""Writing texts token by token: greedy and beam search over any decoder. NumPy only."""
