"""The head of translation: none behind an encoder, since the model is an encoder-decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bert_rt.model.head import HeadSpec

if TYPE_CHECKING:
    from bert_rt.model.config import BertConfig
    from bert_rt.model.encoder import TaskModel

__all__ = ["HEAD"]


def _make(config: BertConfig, num_labels: int) -> TaskModel:
    raise AssertionError("models that translate are made by bert_rt.model.encoder_decoder")


HEAD = HeadSpec(name="translation", class_suffixes=(), make=_make, model_types=())
