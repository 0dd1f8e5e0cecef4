"""What a manifest says of a decoder: its architecture, its tokenizer, how targets are searched."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bert_rt.artifact.checks import check_choice, check_type, object_of, refuse
from bert_rt.artifact.entries import check_file_name
from bert_rt.errors import ArtifactFormatError, ConfigError, InputError
from bert_rt.generation.config import GenerationConfig
from bert_rt.model.architectures import ARCHITECTURES
from bert_rt.model.config import BertConfig, architecture_fields, from_dict
from bert_rt.model.encoder_decoder_config import DECODER_MODEL_TYPES

__all__ = ["DecoderEntry", "decoder_from_json", "decoder_to_json"]

_WHERE = "decoder"
_GENERATION = tuple(field.name for field in dataclasses.fields(GenerationConfig))


@dataclass(frozen=True, kw_only=True)
class DecoderEntry:
    """The decoder of an artifact that writes texts.

    Attributes:
        architecture: The decoder's; the manifest's own architecture is the encoder's.
        tokenizer: The file of the target's tokenizer, which may be the source's.
        generation: How targets are searched where the caller does not say.
    """

    architecture: BertConfig
    tokenizer: str
    generation: GenerationConfig

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ArtifactFormatError: A field has the wrong type or is out of range.
        """
        check_type(f"{_WHERE}.architecture", self.architecture, BertConfig)
        model_type = self.architecture.model_type
        check_choice(f"{_WHERE}.architecture.model_type", model_type, DECODER_MODEL_TYPES)
        check_file_name(self.tokenizer, f"{_WHERE}.tokenizer")
        check_type(f"{_WHERE}.generation", self.generation, GenerationConfig)
        config = self.generation
        tokens = {name: getattr(config, name) for name in _GENERATION if name.endswith("token_id")}
        tokens |= {f"eos_token_ids[{i}]": token for i, token in enumerate(config.eos_token_ids)}
        for name, token in tokens.items():
            if token is not None and token >= self.architecture.vocab_size:
                size = self.architecture.vocab_size
                refuse(f"{_WHERE}.generation.{name}", token, f"a token id below {size}")
        if config.longest > self.max_target_length:
            most = self.max_target_length
            refuse(f"{_WHERE}.generation.max_length", config.longest, f"at most {most} tokens")

    @property
    def max_target_length(self) -> int:
        """Most tokens of a target, the start token included."""
        return self.architecture.max_sequence_length


def decoder_to_json(entry: DecoderEntry) -> dict[str, Any]:
    """Return the form that a manifest holds."""
    names = architecture_fields(entry.architecture.model_type, is_split=False)
    generation = {name: getattr(entry.generation, name) for name in _GENERATION}
    return {
        "architecture": {name: getattr(entry.architecture, name) for name in names},
        "tokenizer": entry.tokenizer,
        "generation": generation | {"eos_token_ids": list(entry.generation.eos_token_ids)},
    }


def decoder_from_json(value: object) -> DecoderEntry:
    """Read the form that a manifest holds; raises ArtifactFormatError."""
    values = _fields(_WHERE, value, ("architecture", "tokenizer", "generation"))
    architecture = object_of(f"{_WHERE}.architecture", values["architecture"])
    model_type = architecture.get("model_type")
    check_choice(f"{_WHERE}.architecture.model_type", model_type, tuple(ARCHITECTURES))
    _fields(
        f"{_WHERE}.architecture", architecture, architecture_fields(str(model_type), is_split=False)
    )
    generation = dict(_fields(f"{_WHERE}.generation", values["generation"], _GENERATION))
    ends = generation["eos_token_ids"]
    if not isinstance(ends, list):
        refuse(f"{_WHERE}.generation.eos_token_ids", ends, "a list of token ids")
    try:
        return DecoderEntry(
            architecture=from_dict(BertConfig, architecture),
            tokenizer=values["tokenizer"],
            generation=GenerationConfig(**{**generation, "eos_token_ids": tuple(ends)}),
        )
    except (ConfigError, InputError) as error:
        raise ArtifactFormatError(f"manifest.{_WHERE}: {str(error)[:500]}") from None


def _fields(where: str, value: object, names: tuple[str, ...]) -> Mapping[str, Any]:
    values = object_of(where, value)
    if set(values) != set(names):
        refuse(where, sorted(values), f"the fields {', '.join(names)}")
    return values
