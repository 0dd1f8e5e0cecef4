"""What a model that answers questions has behind its encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bert_rt.model.head import HeadSpec
from bert_rt.support.outputs import PER_TOKEN

if TYPE_CHECKING:
    from bert_rt.model.config import BertConfig
    from bert_rt.model.encoder import TaskModel

__all__ = ["HEAD"]


def _make(config: BertConfig, num_labels: int) -> TaskModel:
    from bert_rt.tasks.question_answering.model import BertForQuestionAnswering

    del num_labels
    return BertForQuestionAnswering(config)


HEAD = HeadSpec(
    name="question-answering",
    class_suffixes=("ForQuestionAnswering",),
    make=_make,
    outputs={"start_logits": PER_TOKEN, "end_logits": PER_TOKEN},
    # Tokens of the context are of type 1.
    num_token_types=2,
)
