"""What a model that classifies texts has behind its encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bert_rt.model.head import HeadSpec
from bert_rt.support.outputs import PER_SEQUENCE

if TYPE_CHECKING:
    from bert_rt.model.config import BertConfig
    from bert_rt.model.encoder import TaskModel

__all__ = ["HEAD"]


def _make(config: BertConfig, num_labels: int) -> TaskModel:
    from bert_rt.tasks.text_classification.model import BertForSequenceClassification

    return BertForSequenceClassification(config, num_labels)


HEAD = HeadSpec(
    name="text-classification",
    class_suffixes=("ForSequenceClassification",),
    make=_make,
    outputs={"logits": PER_SEQUENCE},
    has_labels=True,
    is_pooled=True,
)
