"""What a model that labels tokens has behind its encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bert_rt.model.head import HeadSpec
from bert_rt.support.outputs import PER_TOKEN

if TYPE_CHECKING:
    from bert_rt.model.config import BertConfig
    from bert_rt.model.encoder import TaskModel

__all__ = ["HEAD"]


def _make(config: BertConfig, num_labels: int) -> TaskModel:
    from bert_rt.tasks.token_classification.model import BertForTokenClassification

    return BertForTokenClassification(config, num_labels)


HEAD = HeadSpec(
    name="token-classification",
    class_suffixes=("ForTokenClassification",),
    make=_make,
    outputs={"logits": PER_TOKEN},
    has_labels=True,
)
