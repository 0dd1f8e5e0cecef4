"""What a model that scores sentences has behind its encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bert_rt.model.head import HeadSpec
from bert_rt.support.outputs import PER_TOKEN

if TYPE_CHECKING:
    from bert_rt.model.config import BertConfig
    from bert_rt.model.encoder import TaskModel

__all__ = ["HEAD"]


def _make(config: BertConfig, num_labels: int) -> TaskModel:
    from bert_rt.tasks.summarization.model import BertForExtractiveSummarization

    del num_labels
    return BertForExtractiveSummarization(config)


HEAD = HeadSpec(
    name="summarization",
    # A name of our own: Transformers has no such class, but reads the weights as those of a
    # ForTokenClassification with one label.
    class_suffixes=("ForExtractiveSummarization",),
    make=_make,
    outputs={"logits": PER_TOKEN},
)
