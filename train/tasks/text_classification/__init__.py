"""Trained to classify texts: labelled texts to a checkpoint."""
