"""The model that scores sentences: one score for every token, averaged over each sentence's.

Source: BertSum, Liu and Lapata 2019, arXiv:1903.10318, with its linear classifier.
"""

from __future__ import annotations

from bert_rt.model.config import BertConfig
from bert_rt.model.heads import BertWithTokenHead
from bert_rt.tasks.summarization.head_spec import HEAD

__all__ = ["BertForExtractiveSummarization"]


class BertForExtractiveSummarization(BertWithTokenHead):
    """BERT with one score a token."""

    spec = HEAD

    def __init__(self, config: BertConfig) -> None:
        """Make and initialize the model."""
        super().__init__(config, 1)
