"""python -m train.pseudo_label: add questions, answered by a model, to a file of SQuAD v1.1."""

from __future__ import annotations

import sys

from bert_rt.support.cli import run_command
from train.tasks.pseudo_label import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(run_command(main))
