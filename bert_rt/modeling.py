"""BERT in PyTorch, top to bottom: it is trained, traced to ONNX, and serves as the float oracle.

Attributes are named, and nested, so that the keys of state_dict() are those of Hugging Face.

Shape suffixes: B sequences, S padded length, D hidden, N heads, H head dim, F feed-forward dim,
V vocabulary, C classes; M any number of positions picked from a batch.

Source: Devlin et al. 2018, arXiv:1810.04805, and its code, github.com/google-research/bert
(modeling.py, run_pretraining.py); the encoder is Vaswani et al. 2017, arXiv:1706.03762, section 3.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bert_rt.config import BertConfig
from bert_rt.errors import ConfigError

__all__ = [
    "BertForPreTraining",
    "BertForQuestionAnswering",
    "BertForSequenceClassification",
    "BertModel",
    "TaskModel",
    "attention",
    "build_model",
    "initialize",
]

# Added to the scores of padding, as in the paper's code (attention_layer). Finite, so that a row
# with nothing to attend to gives numbers instead of NaN, in float16 too; and far enough down that
# its exponential is exactly 0 beside any real score.
_MASKED_SCORE = -10000.0


class BertEmbeddings(nn.Module):
    """Sum of word, position and segment embeddings, normalized (paper, section 3, figure 2)."""

    def __init__(self, config: BertConfig) -> None:
        """Make the three tables."""
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        """Embed a padded batch: int64 (B, S) twice to float (B, S, D)."""
        # Positions count from 0 in every row, so the first S rows of the table are a slice:
        # it traces to one Slice where a lookup of arange(S) would add Range, Expand and Gather.
        position_SD = self.position_embeddings.weight[: input_ids.shape[1]]
        x_BSD = self.word_embeddings(input_ids) + self.token_type_embeddings(token_type_ids)
        out_BSD: Tensor = self.dropout(self.LayerNorm(x_BSD + position_SD))
        return out_BSD


class BertSelfAttention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al., section 3.2)."""

    def __init__(self, config: BertConfig) -> None:
        """Make the three projections."""
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.head_dim = config.head_dim
        self.dropout_prob = config.attention_probs_dropout_prob
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x_BSD: Tensor, mask: Tensor) -> Tensor:
        """Let every position look at the others.

        Args:
            x_BSD: Hidden states.
            mask: Added to the scores; broadcasts to (B, N, S, S), dtype of x_BSD.

        Returns:
            The heads' results side by side, shape (B, S, D).
        """
        q_BNSH, k_BNSH, v_BNSH = (
            project(x_BSD).unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        if torch.compiler.is_exporting():
            out_BNSH = attention(q_BNSH, k_BNSH, v_BNSH, mask)
        else:
            dropout_p = self.dropout_prob if self.training else 0.0
            out_BNSH = F.scaled_dot_product_attention(
                q_BNSH, k_BNSH, v_BNSH, attn_mask=mask, dropout_p=dropout_p
            )
        return out_BNSH.transpose(1, 2).flatten(-2)


def attention(q_BNSH: Tensor, k_BNSH: Tensor, v_BNSH: Tensor, mask: Tensor) -> Tensor:
    """Compute scaled dot-product attention step by step, for tracing.

    torch's fused operator means the same, but the exporter turns it into nine more nodes a layer,
    which transpose the keys by a shape worked out at run time and scale queries and keys apart.

    Args:
        q_BNSH: Queries.
        k_BNSH: Keys.
        v_BNSH: Values.
        mask: Added to the scores; broadcasts to (B, N, S, S).

    Returns:
        Shape (B, N, S, H).
    """
    scores_BNSS = q_BNSH @ k_BNSH.transpose(-2, -1) * q_BNSH.shape[-1] ** -0.5
    return torch.softmax(scores_BNSS + mask, dim=-1) @ v_BNSH


class BertAddNorm(nn.Module):
    """Projection, dropout, residual connection and layer norm: the end of both sublayers."""

    def __init__(self, config: BertConfig, in_features: int) -> None:
        """Make the projection from the sublayer's inner width back to the hidden size."""
        super().__init__()
        self.dense = nn.Linear(in_features, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, inner: Tensor, x_BSD: Tensor) -> Tensor:
        """Close a sublayer: its inner result (B, S, in_features) and its input to (B, S, D)."""
        out_BSD: Tensor = self.LayerNorm(x_BSD + self.dropout(self.dense(inner)))
        return out_BSD


class BertLayer(nn.Module):
    """One encoder layer: attention, then the feed-forward network (Vaswani et al., section 3.1).

    The feed-forward network's GELU is the exact one, with erf (Hendrycks and Gimpel 2016,
    arXiv:1606.08415).
    """

    def __init__(self, config: BertConfig) -> None:
        """Make both sublayers."""
        super().__init__()
        self.attention = nn.ModuleDict(
            {
                "self": BertSelfAttention(config),
                "output": BertAddNorm(config, config.hidden_size),
            }
        )
        self.intermediate = nn.ModuleDict(
            {"dense": nn.Linear(config.hidden_size, config.intermediate_size)}
        )
        self.output = BertAddNorm(config, config.intermediate_size)

    def forward(self, x_BSD: Tensor, mask: Tensor) -> Tensor:
        """Apply the layer; arguments and result as in BertSelfAttention.forward."""
        x_BSD = self.attention["output"](self.attention["self"](x_BSD, mask), x_BSD)
        inner_BSF = F.gelu(self.intermediate["dense"](x_BSD))
        out_BSD: Tensor = self.output(inner_BSF, x_BSD)
        return out_BSD


class BertEncoder(nn.Module):
    """The stack of layers."""

    def __init__(self, config: BertConfig) -> None:
        """Make the layers."""
        super().__init__()
        self.layer = nn.ModuleList(BertLayer(config) for _ in range(config.num_hidden_layers))

    def forward(self, x_BSD: Tensor, mask: Tensor) -> Tensor:
        """Apply every layer; arguments and result as in BertSelfAttention.forward."""
        for layer in self.layer:
            x_BSD = layer(x_BSD, mask)
        return x_BSD


class BertPooler(nn.Module):
    """The first token's state through a tanh layer (the paper's code, class BertModel)."""

    def __init__(self, config: BertConfig) -> None:
        """Make the projection."""
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x_BSD: Tensor) -> Tensor:
        """Pool (B, S, D) to (B, D)."""
        return torch.tanh(self.dense(x_BSD[:, 0]))


class BertModel(nn.Module):
    """Embeddings, encoder and, unless left out, the pooler."""

    def __init__(self, config: BertConfig, *, add_pooling_layer: bool = True) -> None:
        """Make and initialize the model, with or without a pooler."""
        super().__init__()
        self.embeddings = BertEmbeddings(config)
        self.encoder = BertEncoder(config)
        self.pooler = BertPooler(config) if add_pooling_layer else None
        initialize(self.named_parameters(), config.initializer_range)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Encode a padded batch.

        Args:
            input_ids: Shape (B, S), int64, S at most max_position_embeddings.
            attention_mask: Shape (B, S), int64; 1 to attend to a position, 0 for padding.
            token_type_ids: Shape (B, S), int64.

        Returns:
            The last hidden states x_BSD, and pooled_BD, or None in a model without pooler.
        """
        x_BSD = self.embeddings(input_ids, token_type_ids)
        # Made once for all layers and heads; added, because a boolean mask would be traced to a
        # Where and a guard against NaN in every layer.
        mask_BS = (1.0 - attention_mask.to(x_BSD.dtype)) * _MASKED_SCORE
        x_BSD = self.encoder(x_BSD, mask_BS[:, None, None, :])
        return x_BSD, None if self.pooler is None else self.pooler(x_BSD)


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
    """BERT with its two pretraining heads; class 0 of the second is "this sentence follows".

    A trainer that needs the vocabulary scores of few positions calls the parts: `bert(...)`, then
    `cls.predictions(x_MD)` and `cls.seq_relationship(pooled_BD)`.
    """

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
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return (mlm_logits_BSV, nsp_logits_B2); arguments as in BertModel.forward."""
        x_BSD, pooled_BD = self.bert(input_ids, attention_mask, token_type_ids)
        return self.cls.predictions(x_BSD), self.cls.seq_relationship(pooled_BD)


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
        ConfigError: There is no such task.
    """
    classes: dict[str, type[BertModel | BertForPreTraining | BertForQuestionAnswering]] = {
        "encoder": BertModel,
        "pretraining": BertForPreTraining,
        "question-answering": BertForQuestionAnswering,
    }
    with torch.device(device):
        if task == "text-classification":
            return BertForSequenceClassification(config, num_labels)
        if task not in classes:
            raise ConfigError(f"task: got {task!r}, and there is no model for it")
        return classes[task](config)


@torch.no_grad()
def initialize(named_parameters: Iterable[tuple[str, nn.Parameter]], std: float) -> None:
    """Set parameters to where training starts, in place, from torch's global generator.

    Weights are normal with the given deviation, biases 0, the scales of layer norms 1. It is the
    Hugging Face start; the paper's code cuts the normal at two deviations, which torch draws
    thirty times slower than it draws the whole.

    Args:
        named_parameters: Keys of a state_dict and the parameters.
        std: Standard deviation of the weights (BertConfig.initializer_range).

    Source: create_initializer in the paper's code.
    """
    for name, parameter in named_parameters:
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif name.endswith("LayerNorm.weight"):
            nn.init.ones_(parameter)
        else:
            nn.init.normal_(parameter, std=std)
