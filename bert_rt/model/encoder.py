"""BERT's encoder in PyTorch, and with it that of its family: from token ids to hidden states.

Attributes are named, and nested, so that the keys of state_dict() are those of Hugging Face's BERT;
bert_rt.model.architectures knows what other architectures call them.

Shape suffixes: B sequences, S padded length, D hidden, E embeddings, N heads, H head dim,
F feed-forward dim.

Source: Devlin et al. 2018, arXiv:1810.04805, and its code, github.com/google-research/bert
(modeling.py); the encoder is Vaswani et al. 2017, arXiv:1706.03762, section 3; split layers are
Cao et al. 2020, arXiv:2005.00697.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bert_rt.model.config import BertConfig
from bert_rt.model.head import ENCODER, HeadSpec

__all__ = [
    "BertAddNorm",
    "BertEmbeddings",
    "BertEncoder",
    "BertModel",
    "BertProjections",
    "TaskModel",
    "attention",
    "initialize",
    "padding_mask",
    "split_mask",
    "split_positions",
]

# Added to the scores of padding, as in the paper's code (attention_layer). Finite, so that a row
# with nothing to attend to gives numbers instead of NaN, in float16 too; and far enough down that
# its exponential is exactly 0 beside any real score.
_MASKED_SCORE = -10000.0
_POOLER_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": F.gelu,
}


class BertEmbeddings(nn.Module):
    """Sum of word, position and segment embeddings, normalized (paper, section 3, figure 2).

    What other architectures do otherwise: RoBERTa's positions begin behind that of padding, and all
    its tokens are of the first type; DistilBERT has no types; ELECTRA's vectors may be narrower
    than the encoder's, E instead of D.
    """

    def __init__(self, config: BertConfig) -> None:
        """Make the tables."""
        super().__init__()
        size = config.embedding_size or config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, size)
        self.token_type_embeddings: nn.Embedding | None = None
        if config.type_vocab_size:
            self.token_type_embeddings = nn.Embedding(config.type_vocab_size, size)
        self.LayerNorm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.position_offset = config.position_offset
        self.uses_token_types = config.uses_token_types

    def forward(
        self, input_ids: Tensor, token_type_ids: Tensor, num_before: int | Tensor = 0
    ) -> Tensor:
        """Embed a padded batch.

        Args:
            input_ids: Shape (B, S), int64.
            token_type_ids: Shape (B, S), int64.
            num_before: How many tokens came before the first of these, in all rows; or how many
                before every one of them, shape (B, S), int64.

        Returns:
            Shape (B, S, E).
        """
        # Positions count on in every row, so those of S tokens are a slice of the table: it traces
        # to one Slice where a lookup of arange(S) would add Range, Expand and Gather.
        first = self.position_offset + num_before
        if isinstance(first, Tensor):
            position: Tensor = self.position_embeddings(first)
        else:
            position = self.position_embeddings.weight[first : first + input_ids.shape[1]]
        x_BSE = self.word_embeddings(input_ids)
        if self.token_type_embeddings is not None and self.uses_token_types:
            x_BSE = x_BSE + self.token_type_embeddings(token_type_ids)
        elif self.token_type_embeddings is not None:
            x_BSE = x_BSE + self.token_type_embeddings.weight[0]
        out_BSE: Tensor = self.dropout(self.LayerNorm(x_BSE + position))
        return out_BSE


class BertProjections(nn.Module):
    """The projections of an attention."""

    def __init__(self, config: BertConfig) -> None:
        """Make the three projections."""
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.head_dim = config.head_dim
        self.dropout_prob = config.attention_probs_dropout_prob
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)


class BertSelfAttention(BertProjections):
    """Multi-head scaled dot-product attention (Vaswani et al., section 3.2)."""

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


def split_positions(token_type_ids: Tensor, passage_position_offset: int) -> Tensor:
    """Return the positions of sequences whose second text's do not depend on the first one.

    Args:
        token_type_ids: Shape (B, S), int64; 1 for the tokens of the second text, which follow one
            another, 0 for those of the first, and behind the second for padding.
        passage_position_offset: Position of the second text's first token.

    Returns:
        Shape (B, S), int64: 0, 1, 2, ... in the first text, and from passage_position_offset on
        in the second.
    """
    place_BS = torch.ones_like(token_type_ids).cumsum(1) - 1
    passage_BS = token_type_ids.cumsum(1) - 1 + passage_position_offset
    return place_BS + token_type_ids * (passage_BS - place_BS)


def split_mask(token_type_ids: Tensor, mask_B11S: Tensor) -> Tensor:
    """Return what is added to scores where neither text attends to the other.

    Args:
        token_type_ids: As in split_positions.
        mask_B11S: What padding_mask returns.

    Returns:
        Shape (B, 1, S, S), dtype of mask_B11S.
    """
    types_BS = token_type_ids.to(mask_B11S.dtype)
    # 1 where the types differ, as they are 0 or 1.
    other_BSS = (types_BS[:, :, None] - types_BS[:, None, :]).abs()
    return (other_BSS * _MASKED_SCORE)[:, None] + mask_B11S


def padding_mask(attention_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what is added to scores, so that nothing attends to padding.

    It is added, because a boolean mask would be traced to a Where and a guard against NaN in every
    layer.

    Args:
        attention_mask: 1 to attend to a position, 0 for padding: shape (B, S), int64, or with a row
            for every query (B, Q, S).
        dtype: That of the scores.

    Returns:
        Shape (B, 1, 1, S), or (B, 1, Q, S).
    """
    mask = (1.0 - attention_mask.to(dtype)) * _MASKED_SCORE
    return mask[:, None] if mask.dim() == 3 else mask[:, None, None]


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
        self.num_split_layers = config.num_split_layers

    def forward(self, x_BSD: Tensor, mask: Tensor, lower_mask: Tensor | None = None) -> Tensor:
        """Apply every layer.

        Args:
            x_BSD: As in BertSelfAttention.forward.
            mask: As in BertSelfAttention.forward.
            lower_mask: The same for the split layers; None where there is none.

        Returns:
            As in BertSelfAttention.forward.
        """
        for index, layer in enumerate(self.layer):
            if index < self.num_split_layers and lower_mask is not None:
                x_BSD = layer(x_BSD, lower_mask)
            else:
                x_BSD = layer(x_BSD, mask)
        return x_BSD


class BertPooler(nn.Module):
    """The first token's state through a tanh layer (the paper's code, class BertModel).

    What other architectures call the first layer of their classifier is the same, some with
    another activation.
    """

    def __init__(self, config: BertConfig) -> None:
        """Make the projection."""
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = _POOLER_ACTIVATIONS[config.architecture.pooler_act]

    def forward(self, x_BSD: Tensor) -> Tensor:
        """Pool (B, S, D) to (B, D)."""
        return self.activation(self.dense(x_BSD[:, 0]))


class TaskModel(nn.Module):
    """A model that can be written as a checkpoint: the encoder, or `self.bert` and a head.

    Attributes:
        spec: What it has behind the encoder.
        num_labels: Number of its outputs that have names in config.json; None where none have.
    """

    spec: ClassVar[HeadSpec]
    num_labels: int | None = None


class BertModel(TaskModel):
    """Embeddings, encoder and, unless left out, the pooler."""

    spec = ENCODER

    def __init__(self, config: BertConfig, *, add_pooling_layer: bool = True) -> None:
        """Make and initialize the model, with or without a pooler."""
        super().__init__()
        self.embeddings = BertEmbeddings(config)
        self.embeddings_project: nn.Linear | None = None
        if config.embedding_size is not None and config.embedding_size != config.hidden_size:
            self.embeddings_project = nn.Linear(config.embedding_size, config.hidden_size)
        self.encoder = BertEncoder(config)
        self.pooler = BertPooler(config) if add_pooling_layer else None
        self.passage_position_offset = config.passage_position_offset
        initialize(self.named_parameters(), config.initializer_range)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Encode a padded batch.

        Args:
            input_ids: Shape (B, S), int64, S at most the config's max_sequence_length.
            attention_mask: Shape (B, S), int64; 1 to attend to a position, 0 for padding.
            token_type_ids: Shape (B, S), int64; not read where the architecture has no types. With
                split layers as in split_positions.

        Returns:
            The last hidden states x_BSD, and pooled_BD, or None in a model without pooler.
        """
        is_split = self.encoder.num_split_layers > 0
        if is_split:
            positions_BS = split_positions(token_type_ids, self.passage_position_offset)
            x_BSD = self.embeddings(input_ids, token_type_ids, positions_BS)
        else:
            x_BSD = self.embeddings(input_ids, token_type_ids)
        if self.embeddings_project is not None:
            x_BSD = self.embeddings_project(x_BSD)
        # Made once for all layers and heads.
        mask = padding_mask(attention_mask, x_BSD.dtype)
        x_BSD = self.encoder(x_BSD, mask, split_mask(token_type_ids, mask) if is_split else None)
        return x_BSD, None if self.pooler is None else self.pooler(x_BSD)


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
