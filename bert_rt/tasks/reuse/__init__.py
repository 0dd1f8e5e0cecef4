"""What is kept of inputs that come again."""
