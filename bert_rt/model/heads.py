"""The model that is pretrained: BERT with its two heads, and how a model of any head is made.

Start in encoder for what is below the heads; the heads of the tasks are in the rooms of
bert_rt.tasks. Attributes are named, and nested, so that the keys of state_dict() are those of
Hugging Face. The models serve every architecture of bert_rt.model.architectures, whose weights
have BERT's names here.

Shape suffixes: B sequences, S padded length, D hidden, V vocabulary; M any number of positions
picked from a batch.

Source: Devlin et al. 2018, arXiv:1810.04805, and its code, github.com/google-research/bert
(modeling.py, run_pretraining.py).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bert_rt.model.config import BertConfig
from bert_rt.model.encoder import BertModel, TaskModel, initialize
from bert_rt.model.head import PRETRAINING, HeadSpec

__all__ = ["BertForPreTraining", "BertLMPredictionHead", "BertWithTokenHead", "make_model"]


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


class BertForPreTraining(TaskModel):
    """BERT with its two pretraining heads; class 0 of the second is "this sentence follows"."""

    spec = PRETRAINING

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


class BertWithTokenHead(TaskModel):
    """BERT with one linear layer over all tokens, no pooler; tasks derive their models of it.

    The scores at padding mean nothing.
    """

    def __init__(self, config: BertConfig, num_labels: int) -> None:
        """Make and initialize the model with num_labels scores a token, C."""
        super().__init__()
        self.num_labels = num_labels
        self.bert = BertModel(config, add_pooling_layer=False)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, num_labels)
        initialize(self.classifier.named_parameters(), config.initializer_range)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Return logits_BSC; arguments as in BertModel.forward."""
        x_BSD, _ = self.bert(input_ids, attention_mask, token_type_ids)
        logits_BSC: Tensor = self.classifier(self.dropout(x_BSD))
        return logits_BSC


def make_model(
    spec: HeadSpec, config: BertConfig, num_labels: int = 2, *, device: str = "cpu"
) -> TaskModel:
    """Make a model with fresh weights, in training mode.

    Args:
        spec: What it has behind the encoder.
        config: The architecture, which has such a head.
        num_labels: Number of labels, where the head has them.
        device: Where the parameters are made; on "meta" they have shapes and no storage.

    Returns:
        The model.
    """
    with torch.device(device):
        return spec.make(config, num_labels)
