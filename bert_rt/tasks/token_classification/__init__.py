"""Token classification: a label for every word of a text, and the entities that they make."""
