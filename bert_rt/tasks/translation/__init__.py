"""Translation: texts of one language, and what they are in another."""
