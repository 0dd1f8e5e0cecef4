"""Configurations: frozen, checked when they are made, and exact in a JSON round trip."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from bert_rt.errors import ConfigError
from bert_rt.model.architectures import ARCHITECTURES, Architecture, supported_model_types

__all__ = [
    "BERT_SIZES",
    "BertConfig",
    "architecture_fields",
    "check_float",
    "check_int",
    "from_dict",
    "to_dict",
]

ConfigT = TypeVar("ConfigT")
_ACTIVATIONS = ("gelu",)
_SPLIT_FIELDS = ("num_split_layers", "passage_position_offset")


def to_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as a dictionary that JSON can hold."""
    return dataclasses.asdict(config)


def from_dict(cls: type[ConfigT], values: Mapping[str, Any], *, strict: bool = True) -> ConfigT:
    """Make a configuration from a dictionary.

    Args:
        cls: The configuration's class.
        values: Field names and values, as to_dict gives them.
        strict: Whether a name that the class does not have is an error (else it is left out).

    Returns:
        The configuration, checked.

    Raises:
        ConfigError: A name is unknown, a field without default is missing or a value is wrong.
    """
    names = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(names))
    if unknown and strict:
        raise ConfigError(f"{cls.__name__}: unknown fields {unknown}")
    absent = [
        name
        for name, field in names.items()
        if name not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if absent:
        raise ConfigError(f"{cls.__name__}: missing fields {absent}")
    return cls(**{name: value for name, value in values.items() if name in names})


def check_int(owner: str, name: str, value: Any, low: int, high: int) -> None:
    """Refuse what is no integer from low to high in a field of a configuration."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{owner}.{name}: got {value!r}, want an integer from {low} to {high}")


def check_float(owner: str, name: str, value: Any, low: float, high: float) -> None:
    """Refuse what is no number from low to high in a field of a configuration."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigError(f"{owner}.{name}: got {value!r}, want a number from {low} to {high}")


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """The architecture of a BERT model, in the field names of the Hugging Face config.json.

    The defaults are BERT-base, uncased.

    Attributes:
        model_type: One of bert_rt.model.architectures.
        type_vocab_size: Rows of the table of token types; 0 where the architecture has none.
        max_position_embeddings: Rows of the table of positions; see max_sequence_length.
        embedding_size: Width of the embeddings where the architecture projects them, by default
            hidden_size; None for all other architectures.
        num_split_layers: How many of the lowest layers attend within the first text and within
            the second one only; 0, as usual, for none.
        passage_position_offset: With split layers, the position of the second text's first token,
            whatever the length of the first; 0 without.

    Source: Devlin et al. 2018, arXiv:1810.04805, section 3 (sizes), appendix A.2 (dropout); split
        layers, Cao et al. 2020, arXiv:2005.00697.
    """

    model_type: str = "bert"
    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0
    embedding_size: int | None = None
    num_split_layers: int = 0
    passage_position_offset: int = 0

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: A field is out of range, or hidden_size is no multiple of the heads.
        """
        if not isinstance(self.model_type, str) or self.model_type not in ARCHITECTURES:
            raise ConfigError(
                f"BertConfig.model_type: got {self.model_type!r}, want one of "
                f"{supported_model_types()}"
            )
        for name, high in (
            ("vocab_size", 2**24),
            ("hidden_size", 2**16),
            ("num_hidden_layers", 1024),
            ("num_attention_heads", 1024),
            ("intermediate_size", 2**18),
            ("max_position_embeddings", 2**16),
        ):
            check_int("BertConfig", name, getattr(self, name), 1, high)
        check_int("BertConfig", "pad_token_id", self.pad_token_id, 0, self.vocab_size - 1)
        self._check_embeddings()
        self._check_split()
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            check_float("BertConfig", name, getattr(self, name), 0.0, 0.99)
        check_float("BertConfig", "initializer_range", self.initializer_range, 0.0, 10.0)
        check_float("BertConfig", "layer_norm_eps", self.layer_norm_eps, 0.0, 1.0)
        if self.hidden_act not in _ACTIVATIONS:
            raise ConfigError(
                f"BertConfig.hidden_act: got {self.hidden_act!r}, want one of {_ACTIVATIONS}"
            )
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"BertConfig.hidden_size: got {self.hidden_size}, want a multiple of "
                f"num_attention_heads ({self.num_attention_heads})"
            )

    def _check_embeddings(self) -> None:
        low, high = (0, 0) if self.architecture.token_types == "none" else (1, 1024)
        check_int("BertConfig", "type_vocab_size", self.type_vocab_size, low, high)
        if self.position_offset >= self.max_position_embeddings:
            raise ConfigError(
                f"BertConfig.max_position_embeddings: got {self.max_position_embeddings}, want "
                f"more than {self.position_offset}, where the positions of {self.model_type} begin"
            )
        if self.architecture.has_embedding_size:
            size = self.hidden_size if self.embedding_size is None else self.embedding_size
            check_int("BertConfig", "embedding_size", size, 1, 2**16)
            object.__setattr__(self, "embedding_size", size)
        elif self.embedding_size is not None:
            raise ConfigError(
                f"BertConfig.embedding_size: got {self.embedding_size!r}, want None for "
                f"{self.model_type}, whose embeddings have the width hidden_size"
            )

    def _check_split(self) -> None:
        # The highest layer must see both texts, or the model could not tell what is asked.
        longest = self.num_hidden_layers - 1
        check_int("BertConfig", "num_split_layers", self.num_split_layers, 0, longest)
        # At least [CLS], a token and [SEP] come before the second text.
        low, high = (3, self.max_sequence_length - 1) if self.num_split_layers else (0, 0)
        offset = self.passage_position_offset
        check_int("BertConfig", "passage_position_offset", offset, low, high)
        if self.num_split_layers and not (self.uses_token_types and self.type_vocab_size >= 2):
            raise ConfigError(
                f"BertConfig.num_split_layers: got {self.num_split_layers}, want 0 for "
                f"{self.model_type} with type_vocab_size {self.type_vocab_size}: token types tell "
                "the two texts apart"
            )

    @property
    def architecture(self) -> Architecture:
        """What the architecture has otherwise than BERT."""
        return ARCHITECTURES[self.model_type]

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def position_offset(self) -> int:
        """Row of the table of positions that a sequence's first token takes."""
        return self.pad_token_id + 1 if self.architecture.positions_follow_padding else 0

    @property
    def max_sequence_length(self) -> int:
        """Longest sequence in tokens, special tokens included."""
        return self.max_position_embeddings - self.position_offset

    @property
    def num_token_types(self) -> int:
        """How many values the model can take in token_type_ids, of the two that sequences have."""
        return min(self.type_vocab_size, 2) if self.uses_token_types else 2

    @property
    def uses_token_types(self) -> bool:
        """Whether token_type_ids change the result."""
        return self.architecture.token_types == "learned"


def architecture_fields(model_type: str, *, is_split: bool) -> tuple[str, ...]:
    """Return the fields of BertConfig that files have.

    Args:
        model_type: The architecture; few have embedding_size.
        is_split: Whether the model has split layers; files of others do not name their fields.

    Returns:
        The names.
    """
    absent = set() if is_split else set(_SPLIT_FIELDS)
    if not ARCHITECTURES[model_type].has_embedding_size:
        absent.add("embedding_size")
    names = (field.name for field in dataclasses.fields(BertConfig))
    return tuple(name for name in names if name not in absent)


def _sized(num_hidden_layers: int, hidden_size: int) -> BertConfig:
    return BertConfig(
        hidden_size=hidden_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=hidden_size // 64,
        intermediate_size=4 * hidden_size,
    )


# The named sizes, each with the vocabulary of BERT uncased.
# Source: Devlin et al. 2018, arXiv:1810.04805, section 3 (base, large); Turc et al. 2019,
# arXiv:1908.08962, section 3.1 and github.com/google-research/bert (tiny to medium).
BERT_SIZES: Mapping[str, BertConfig] = MappingProxyType(
    {
        "tiny": _sized(2, 128),
        "mini": _sized(4, 256),
        "small": _sized(4, 512),
        "medium": _sized(8, 512),
        "base": _sized(12, 768),
        "large": _sized(24, 1024),
    }
)
