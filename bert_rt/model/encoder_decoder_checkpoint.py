"""Hugging Face's EncoderDecoderModel directory layout, read and written.

config.json has a part for the encoder and one for the decoder, model.safetensors keys that begin
with "encoder.", "decoder." or "enc_to_dec_proj.", generation_config.json what generation does where
the caller does not say. That layout has one tokenizer; where the target has another than the
source, its files stand in the subdirectory decoder/.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bert_rt.errors import CheckpointError, ConfigError
from bert_rt.model.checkpoint import (
    architecture_of,
    architecture_values,
    load_checkpoint,
    read_raw_config,
    read_tokenizer_files,
    write_files,
)
from bert_rt.model.encoder_decoder_config import EncoderDecoderConfig
from bert_rt.model.head import ENCODER, PRETRAINING
from bert_rt.model.vocabulary import check_vocabulary
from bert_rt.model.weights import (
    WEIGHTS_NAME,
    check_tensor,
    parse_object,
    read_weights,
    shortened,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bert_rt.model.encoder_decoder import EncoderDecoder

__all__ = [
    "ENCODER_DECODER",
    "TARGET_DIRECTORY",
    "LoadedEncoderDecoder",
    "initialize_decoder",
    "initialize_encoder",
    "load_encoder_decoder",
    "read_encoder_decoder_config",
    "read_target_tokenizer_files",
    "save_encoder_decoder",
]

ENCODER_DECODER = "encoder-decoder"  # model_type in config.json
TARGET_DIRECTORY = "decoder"
_CLASS = "EncoderDecoderModel"
_CONFIG = "config.json"
_GENERATION = "generation_config.json"
_TOKEN_IDS = ("decoder_start_token_id", "eos_token_id", "pad_token_id")
_UNSAID = {"max_length": 20, "num_beams": 1}
# Weights that are not read: the decoder does not look at the pooler, and constants of old releases.
_UNREAD = ("pooler.", "embeddings.position_ids", "embeddings.token_type_ids")
# Second names of weights.
_PROJECTION = "decoder.cls.predictions.decoder.weight"
_WORDS = "decoder.bert.embeddings.word_embeddings.weight"
_SECOND_BIAS = "decoder.cls.predictions.decoder.bias"
_BIAS = "decoder.cls.predictions.bias"


@dataclass(frozen=True, slots=True)
class LoadedEncoderDecoder:
    """A model as load_encoder_decoder makes it.

    Attributes:
        model: The module, float32, on the CPU, in eval mode.
        config: The architecture.
        raw_config: All of config.json; pass it to save_encoder_decoder to keep what it says.
        generation_config: All of generation_config.json; what the same fields of config.json say
            where there is no such file.
    """

    model: EncoderDecoder
    config: EncoderDecoderConfig
    raw_config: dict[str, Any]
    generation_config: dict[str, Any]


def read_encoder_decoder_config(
    directory: str | Path,
) -> tuple[EncoderDecoderConfig, dict[str, Any], dict[str, Any]]:
    """Read config.json and generation_config.json.

    Args:
        directory: The checkpoint.

    Returns:
        The architecture, all of config.json, and the defaults of generation: of
        generation_config.json, or, where there is none, what config.json says at its top or, where
        that is silent, of its decoder. Fields that are null are left out.

    Raises:
        CheckpointError: A file cannot be read, the model is no encoder-decoder, or one of its
            parts is none that this project computes.
    """
    file, raw = read_raw_config(directory)
    if raw.get("model_type") != ENCODER_DECODER:
        raise CheckpointError(
            f"{file}: model_type: got {raw.get('model_type')!r}, want {ENCODER_DECODER!r}"
        )
    parts: dict[str, Any] = {}
    for name in ("encoder", "decoder"):
        part = raw.get(name)
        if not isinstance(part, dict):
            raise CheckpointError(f"{file}: {name}: got {part!r}, want the configuration of one")
        is_decoder = name == "decoder"
        parts[name] = architecture_of(part, str(file), prefix=f"{name}.", is_decoder=is_decoder)
    _check_width(file, raw["decoder"], parts["decoder"].hidden_size)
    generation = _generation_defaults(file.parent, raw)
    ids: dict[str, Any] = {name: _token_id(file, name, raw, generation) for name in _TOKEN_IDS}
    ties = raw["decoder"].get("tie_word_embeddings")
    try:
        config = EncoderDecoderConfig(
            **parts,
            **ids,
            tie_word_embeddings=True if ties is None else ties,
            tie_encoder_decoder=raw.get("tie_encoder_decoder") or False,
        )
    except ConfigError as error:
        raise CheckpointError(f"{file}: {error}") from error
    return config, raw, generation


def _check_width(file: Path, decoder: Mapping[str, Any], hidden_size: int) -> None:
    width = decoder.get("cross_attention_hidden_size")
    if width not in (None, hidden_size):
        raise CheckpointError(
            f"{file}: decoder.cross_attention_hidden_size: got {width!r}, supported are null and "
            f"the decoder's hidden_size ({hidden_size})"
        )


def _generation_defaults(path: Path, raw: Mapping[str, Any]) -> dict[str, Any]:
    file = path / _GENERATION
    if file.is_file():
        values = parse_object(file.read_bytes(), file)
    else:
        own = {name: value for name, value in raw.items() if value is not None}
        values = {**raw["decoder"], **own}
        # Old releases wrote all fields into config.json; the default values say nothing.
        values = {n: v for n, v in values.items() if n not in _UNSAID or v != _UNSAID[n]}
    return {name: value for name, value in values.items() if value is not None}


def _token_id(file: Path, name: str, raw: Mapping[str, Any], generation: Mapping[str, Any]) -> Any:
    """Find a token's id where Transformers looks for it."""
    names = [name, "bos_token_id"] if name == "decoder_start_token_id" else [name]
    for field in names:
        for values in (generation, raw, raw["decoder"]):
            value = values.get(field)
            # Several tokens may end a target; the first is the one that training writes.
            value = value[0] if isinstance(value, list) and value else value
            if value is not None:
                return value  # checked by EncoderDecoderConfig
    raise CheckpointError(f"{file}: {name}: got none, want a token id (here or in {_GENERATION})")


def read_target_tokenizer_files(directory: str | Path) -> dict[str, bytes]:
    """Return the files of the target's tokenizer, by name; none where the source's serves both."""
    return read_tokenizer_files(Path(directory) / TARGET_DIRECTORY)


def load_encoder_decoder(directory: str | Path) -> LoadedEncoderDecoder:
    """Load a checkpoint.

    Args:
        directory: The checkpoint.

    Returns:
        The model and all that the directory says of it.

    Raises:
        CheckpointError: A file cannot be read, the weights are not those of the model, or a
            tokenizer has more ids than the model has embeddings.
    """
    import torch

    from bert_rt.model.encoder_decoder import EncoderDecoder

    path = Path(directory)
    config, raw, generation = read_encoder_decoder_config(path)
    _check_tokenizers(
        path, config, read_tokenizer_files(path), read_target_tokenizer_files(path), warn=True
    )
    # Without storage, so that nothing is initialized only to be overwritten.
    with torch.device("meta"):
        model = EncoderDecoder(config)
    state = _fitted(path, model, _named_weights(path, config))
    model.to_empty(device="cpu")
    model.tie_weights()
    model.load_state_dict(state, strict=False)  # copies, and converts to float32
    return LoadedEncoderDecoder(model.eval(), config, raw, generation)


def _check_tokenizers(
    path: Path,
    config: EncoderDecoderConfig,
    source: Mapping[str, bytes],
    target: Mapping[str, bytes],
    *,
    warn: bool = False,
) -> None:
    check_vocabulary(path, source, config.encoder.vocab_size, warn=warn)
    where = path / TARGET_DIRECTORY if target else path
    check_vocabulary(where, target or source, config.decoder.vocab_size, warn=warn)


def _named_weights(path: Path, config: EncoderDecoderConfig) -> dict[str, Tensor]:
    """Read all weights under the model's names, without those that it has no use for."""
    weights = {}
    for key, tensor in read_weights(path):
        part, _, bare = key.partition(".")
        if part in ("encoder", "decoder"):
            row = getattr(config, part).architecture
            bare = row.to_bert_key(bare, ENCODER)
            if bare.removeprefix("bert.").startswith(_UNREAD):
                continue
            key = f"{part}.{bare.removeprefix('bert.') if part == 'encoder' else bare}"
        weights[key] = tensor
    return weights


def _fitted(path: Path, model: EncoderDecoder, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Match weights to the model; return its state_dict, what is shared once or more."""
    import torch

    wanted = {key: tensor.shape for key, tensor in model.state_dict().items()}
    for key, source in _shared_names(model).items():
        first, second = weights.get(source), weights.get(key)
        if first is None and second is not None:
            weights[source] = second
        elif first is not None and second is not None and not torch.equal(first, second):
            raise CheckpointError(f"{path}: {key} differs from {source}, want them tied")
        weights.pop(key, None)
        wanted.pop(key, None)
    missing, unexpected = wanted.keys() - weights.keys(), weights.keys() - wanted.keys()
    faults = [shortened("missing", missing)] if missing else []
    faults += [shortened("unexpected", unexpected)] if unexpected else []
    if faults:
        raise CheckpointError(f"{path}: not a {_CLASS} of this size: {' and '.join(faults)}")
    for key, shape in wanted.items():
        check_tensor(path, key, weights[key], shape)
    return {key: weights[key] for key in wanted}


def _shared_names(model: EncoderDecoder) -> dict[str, str]:
    """Return second names of the model's weights, and the names under which they are written."""
    shared = {_SECOND_BIAS: _BIAS}
    if model.config.tie_word_embeddings:
        shared[_PROJECTION] = _WORDS
    if model.config.tie_encoder_decoder:
        decoder = {key for key, _ in model.decoder.bert.named_parameters()}
        names = [key for key in model.encoder.state_dict() if key in decoder]
        shared |= {f"encoder.{key}": f"decoder.bert.{key}" for key in names}
    return shared


def save_encoder_decoder(
    directory: str | Path,
    model: EncoderDecoder,
    *,
    tokenizer_files: Mapping[str, bytes],
    decoder_tokenizer_files: Mapping[str, bytes] | None = None,
    generation_config: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint that Transformers and load_encoder_decoder read, whole or not at all.

    Args:
        directory: The checkpoint, as for save_checkpoint.
        model: The module.
        tokenizer_files: Those of the source's tokenizer, by name.
        decoder_tokenizer_files: Those of the target's, where it is another.
        generation_config: More of generation_config.json, such as num_beams and max_length.
        extra: More of config.json: the raw_config of the checkpoint that the model came from.

    Raises:
        CheckpointError: The directory cannot be written, or a tokenizer has more ids than the
            model has embeddings.
    """
    path = Path(directory)
    config, target = model.config, decoder_tokenizer_files or {}
    _check_tokenizers(path, config, tokenizer_files, target)
    ids = {name: getattr(config, name) for name in _TOKEN_IDS}
    contents = {
        _CONFIG: _config_values(model, extra or {}) | ids,
        _GENERATION: dict(generation_config or {}) | ids,
    }
    files = dict(tokenizer_files)
    files |= {f"{TARGET_DIRECTORY}/{name}": content for name, content in target.items()}
    for name, values in contents.items():
        files[name] = (json.dumps(values, indent=2, sort_keys=True) + "\n").encode()
    files[WEIGHTS_NAME] = _to_safetensors(model)
    write_files(path, files)


def _config_values(model: EncoderDecoder, extra: Mapping[str, Any]) -> dict[str, Any]:
    config = model.config
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    parts: dict[str, Any] = {
        name: architecture_values(getattr(config, name), extra.get(name) or {})
        for name in ("encoder", "decoder")
    }
    parts["encoder"] |= {"model_type": config.encoder.model_type, "is_decoder": False}
    parts["decoder"] |= {
        "model_type": config.decoder.model_type,
        "is_decoder": True,
        "add_cross_attention": True,
        "tie_word_embeddings": config.tie_word_embeddings,
    }
    kept = {name: value for name, value in extra.items() if name != "torch_dtype"}
    return {
        **kept,
        **parts,
        "architectures": [_CLASS],
        "dtype": dtype,
        "is_encoder_decoder": True,
        "model_type": ENCODER_DECODER,
        "tie_encoder_decoder": config.tie_encoder_decoder,
    }


def _to_safetensors(model: EncoderDecoder) -> bytes:
    """Return the content of model.safetensors: what is shared once, as Transformers writes it."""
    from safetensors.torch import save

    row = model.config.encoder.architecture
    shared = _shared_names(model)
    state = {}
    for key, tensor in model.state_dict().items():
        if key in shared:
            continue
        if key.startswith("encoder."):
            own = row.from_bert_key(f"bert.{key.removeprefix('encoder.')}", ENCODER)
            key = f"encoder.{own.removeprefix(f'{row.prefix}.')}"
        state[key] = tensor.detach().cpu().contiguous()
    content: bytes = save(state, metadata={"format": "pt"})
    return content


def initialize_encoder(model: EncoderDecoder, directory: str | Path) -> None:
    """Start the encoder from a checkpoint of the family, whatever head that has.

    Args:
        model: Its encoder gets the weights, in place.
        directory: The checkpoint of one model, such as BERT.

    Raises:
        CheckpointError: The checkpoint cannot be read.
        ConfigError: The encoder is of another architecture.
    """
    loaded = load_checkpoint(directory, ENCODER, allow_new_head=True)
    _check_same(directory, "encoder", loaded.config, model.config.encoder)
    state = loaded.model.state_dict()
    _copy(model.encoder, {k: v for k, v in state.items() if not k.startswith("pooler.")})


def initialize_decoder(model: EncoderDecoder, directory: str | Path) -> None:
    """Start the decoder from a BERT with a masked language model; cross attention stays as it is.

    Args:
        model: Its decoder gets the weights, in place.
        directory: The checkpoint. Scores over the vocabulary are new where it has none.

    Raises:
        CheckpointError: The checkpoint cannot be read.
        ConfigError: The decoder is of another architecture.
    """
    loaded = load_checkpoint(directory, PRETRAINING, allow_new_head=True)
    _check_same(directory, "decoder", loaded.config, model.config.decoder)
    unused = ("bert.pooler.", "cls.seq_relationship.")
    state = loaded.model.state_dict()
    _copy(model.decoder, {k: v for k, v in state.items() if not k.startswith(unused)})


def _check_same(directory: str | Path, part: str, got: Any, want: Any) -> None:
    names = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    for name in names:
        ours, other = getattr(want, name), getattr(got, name)
        if ours != other:
            raise ConfigError(f"{directory}: {name}: got {other!r}, want the {part}'s {ours!r}")


def _copy(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    try:
        unknown = module.load_state_dict(dict(state), strict=False).unexpected_keys
    except RuntimeError as error:  # another shape: torch's message names key and shapes
        raise ConfigError(f"weights: want those of a model of this size: {error}") from error
    assert not unknown, f"the module has no place for {unknown}"
