"""BERT and its family: configuration, PyTorch modules, checkpoints."""
