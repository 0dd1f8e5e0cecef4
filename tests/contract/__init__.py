"""What the project promises as a whole."""
