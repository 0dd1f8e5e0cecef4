"""Trained to answer questions: SQuAD files to a checkpoint."""
