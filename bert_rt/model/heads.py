"""BERT's tasks in PyTorch: heads on the encoder, trained, traced to ONNX, and the float oracle.

Start in encoder for what is below the heads. Attributes are named, and nested, so that the
keys of state_dict() are those of Hugging Face. The models serve every architecture of
bert_rt.model.architectures, whose weights have BERT's names here.

Shape suffixes: B sequences, S padded length, D hidden, V vocabulary, C classes; M any number of
positions picked from a batch.

Source: Devlin et al. 2018, arXiv:1810.04805, and its code, github.com/google-research/bert
(modeling.py, run_pretraining.py).
"""

from __future__ import annotations

from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bert_rt.errors import ConfigError
from bert_rt.model.config import BertConfig
from bert_rt.model.encoder import BertModel, attention, initialize

__all__ = [
    "OUTPUT_NAMES",
    "BertForPreTraining",
    "BertForQuestionAnswering",
    "BertForSequenceClassification",
    "BertModel",
    "TaskModel",
    "attention",
    "build_model",
    "initialize",
]


class BertLMPredictionHead(nn.Module):
    """The masked language model: scores over the vocabulary (paper, section 3.1, task 1)."""

    def __init__(self, config: BertConfig, word_embeddings: nn.Embedding) -> None:
        """Make the head; the word embeddings serve as its output projection, too."""
        super().__init__()
        self.transform = nn.ModuleDict(
            {
                "dense": nn.Linear(config.hidden_size, config.hidden_size),
                "LayerNorm": nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps),
            }
        )
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.tie(word_embeddings)

    def tie(self, word_embeddings: nn.Embedding) -> None:
        """Make the decoder share the word embeddings, and its bias be `self.bias`."""
        self.decoder.weight = word_embeddings.weight
        self.decoder.bias = self.bias

    def forward(self, x: Tensor) -> Tensor:
        """Score the vocabulary.

        Args:
            x: Hidden states of shape (..., D): a whole batch (B, S, D), or only the positions
                that a loss is taken at, (M, D), which spares most of the projection's work.

        Returns:
            Logits of shape (..., V).
        """
        x = self.transform["LayerNorm"](F.gelu(self.transform["dense"](x)))
        logits: Tensor = self.decoder(x)
        return logits


class BertPreTrainingHeads(nn.Module):
    """Masked language model and next-sentence prediction (paper, section 3.1)."""

    def __init__(self, config: BertConfig, word_embeddings: nn.Embedding) -> None:
        """Make both heads; the vocabulary projection shares the word embeddings."""
        super().__init__()
        self.predictions = BertLMPredictionHead(config, word_embeddings)
        self.seq_relationship = nn.Linear(config.hidden_size, 2)


class BertForPreTraining(nn.Module):
    """BERT with its two pretraining heads; class 0 of the second is "this sentence follows"."""

    def __init__(self, config: BertConfig) -> None:
        """Make and initialize the model."""
        super().__init__()
        self.bert = BertModel(config)
        self.cls = BertPreTrainingHeads(config, self.bert.embeddings.word_embeddings)
        for head in (self.cls.predictions.transform, self.cls.seq_relationship):
            initialize(head.named_parameters(), config.initializer_range)

    def tie_weights(self) -> None:
        """Restore the sharing of the word embeddings, after something has replaced parameters."""
        self.cls.predictions.tie(self.bert.embeddings.word_embeddings)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor,
        masked_positions: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Score the vocabulary and the next sentence.

        Args:
            input_ids: As in BertModel.forward.
            attention_mask: As in BertModel.forward.
            token_type_ids: As in BertModel.forward.
            masked_positions: Where to score the vocabulary, which spares most of the projection's
                work: numbers of positions in the flattened batch, shape (M,), int64. None for
                everywhere.

        Returns:
            mlm_logits_MV, or mlm_logits_BSV for everywhere; and nsp_logits_B2.
        """
        x_BSD, pooled_BD = self.bert(input_ids, attention_mask, token_type_ids)
        x = x_BSD if masked_positions is None else x_BSD.flatten(0, 1)[masked_positions]
        return self.cls.predictions(x), self.cls.seq_relationship(pooled_BD)


class BertForQuestionAnswering(nn.Module):
    """BERT with a start and an end score for every token (paper, section 4.2), no pooler.

    The scores at padding mean nothing.
    """

    def __init__(self, config: BertConfig) -> None:
        """Make and initialize the model."""
        super().__init__()
        self.bert = BertModel(config, add_pooling_layer=False)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        initialize(self.qa_outputs.named_parameters(), config.initializer_range)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return (start_logits_BS, end_logits_BS); arguments as in BertModel.forward."""
        x_BSD, _ = self.bert(input_ids, attention_mask, token_type_ids)
        logits_BS2 = self.qa_outputs(x_BSD)
        return logits_BS2[..., 0], logits_BS2[..., 1]


class BertForSequenceClassification(nn.Module):
    """BERT with class scores for a whole sequence (paper, section 4.1)."""

    def __init__(self, config: BertConfig, num_labels: int = 2) -> None:
        """Make and initialize the model for num_labels classes."""
        super().__init__()
        self.bert = BertModel(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, num_labels)
        initialize(self.classifier.named_parameters(), config.initializer_range)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Return logits_BC; arguments as in BertModel.forward."""
        _, pooled_BD = self.bert(input_ids, attention_mask, token_type_ids)
        logits_BC: Tensor = self.classifier(self.dropout(pooled_BD))
        return logits_BC


TaskModel: TypeAlias = (
    BertModel | BertForPreTraining | BertForQuestionAnswering | BertForSequenceClassification
)


# What the models that compile return, in their order; the names are those of a graph's outputs.
OUTPUT_NAMES = {
    "question-answering": ("start_logits", "end_logits"),
    "text-classification": ("logits",),
}


def build_model(
    task: str, config: BertConfig, num_labels: int = 2, *, device: str = "cpu"
) -> TaskModel:
    """Make the model of a task, with fresh weights, in training mode.

    Args:
        task: "encoder", "pretraining", "question-answering" or "text-classification".
        config: The architecture.
        num_labels: Number of classes, C, of a text classifier.
        device: Where the parameters are made; on "meta" they have shapes and no storage.

    Returns:
        The model.

    Raises:
        ConfigError: There is no such task, or the architecture does not have it.
    """
    tasks = config.architecture.tasks
    if task not in tasks:
        raise ConfigError(
            f"task: got {task!r}, and there is no model for it; {config.model_type} has "
            f"{', '.join(tasks)}"
        )
    with torch.device(device):
        if task == "text-classification":
            return BertForSequenceClassification(config, num_labels)
        if task == "pretraining":
            return BertForPreTraining(config)
        if task == "question-answering":
            return BertForQuestionAnswering(config)
        return BertModel(config, add_pooling_layer=config.architecture.has_pooler)
