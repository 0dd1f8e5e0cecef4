"""The model that labels tokens: scores of the labels for every token.

Source: Devlin et al. 2018, arXiv:1810.04805, section 5.3.
"""

from __future__ import annotations

from bert_rt.model.heads import BertWithTokenHead
from bert_rt.tasks.token_classification.head_spec import HEAD

__all__ = ["BertForTokenClassification"]


class BertForTokenClassification(BertWithTokenHead):
    """BERT with scores of the labels for every token."""

    spec = HEAD
