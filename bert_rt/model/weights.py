"""The tensors of a checkpoint: found, read, fitted to a model, serialized.

Its names are for the module checkpoint, which is the one to call. torch and safetensors are
imported when they are first used.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bert_rt.errors import CheckpointError
from bert_rt.support.strict_json import parse_lenient_json

if TYPE_CHECKING:
    from torch import Tensor

    from bert_rt.model.config import BertConfig
    from bert_rt.model.heads import TaskModel

__all__ = ["WEIGHTS_NAME", "load_weights", "parse_object", "to_safetensors", "weight_files"]

WEIGHTS_NAME = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLED = "pytorch_model.bin"
_MAX_JSON_BYTES = 1 << 28
# The decoder is the word embeddings and the bias beside it, under second names.
_TIED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
_log = logging.getLogger(__name__)


def parse_object(data: bytes, path: Path) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        data: The JSON text.
        path: Where it stands, for the error's message.

    Returns:
        The object.

    Raises:
        CheckpointError: The text is not JSON, or its value is not an object.
    """
    try:
        value = parse_lenient_json(data, max_bytes=_MAX_JSON_BYTES)
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: got a JSON {type(value).__name__}, want an object")
    return value


def weight_files(path: Path) -> list[Path]:
    """Find the files that hold the weights.

    Args:
        path: The checkpoint directory.

    Returns:
        model.safetensors; else the shards of its index, sorted; else pytorch_model.bin.

    Raises:
        CheckpointError: There is none of them, or the index names a file that is not there.
    """
    if (path / WEIGHTS_NAME).is_file():
        return [path / WEIGHTS_NAME]
    if (path / _INDEX).is_file():
        names = parse_object((path / _INDEX).read_bytes(), path / _INDEX).get("weight_map")
        if not isinstance(names, dict) or not all(isinstance(v, str) for v in names.values()):
            raise CheckpointError(f"{path / _INDEX}: no weight_map of file names in it")
        for name in set(names.values()):
            if Path(name).name != name or not (path / name).is_file():
                raise CheckpointError(f"{path / _INDEX}: no file {name!r} beside it")
        return [path / name for name in sorted(set(names.values()))]
    if (path / _PICKLED).is_file():
        return [path / _PICKLED]
    raise CheckpointError(f"{path}: no weights in it, want {WEIGHTS_NAME}, {_INDEX} or {_PICKLED}")


def _read_tensors(file: Path) -> dict[str, Tensor]:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if file.name != _PICKLED:
        try:
            return load_file(file)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{file}: not a whole safetensors file: {error}") from error
    try:
        # Files from before torch 1.6 are no zip archives and cannot be mapped.
        is_archive = zipfile.is_zipfile(file)
        tensors = torch.load(file, map_location="cpu", weights_only=True, mmap=is_archive)
    except Exception as error:  # what a damaged pickle raises is not bounded
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{file}: cannot be read: {reason}") from error
    if not isinstance(tensors, dict) or not all(torch.is_tensor(v) for v in tensors.values()):
        raise CheckpointError(f"{file}: got something else than a dictionary of tensors")
    return tensors


def _is_head(key: str) -> bool:
    return key.startswith("bert.pooler.") or not key.startswith("bert.")


def _shortened(what: str, keys: Collection[str]) -> str:
    return f"{len(keys)} {what} keys ({', '.join(sorted(keys)[:3])}{', ...' * (len(keys) > 3)})"


def load_weights(
    path: Path, model: TaskModel, config: BertConfig, task: str, *, allow_new_head: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give a model without storage (torch's "meta" device) a checkpoint's weights, on the CPU.

    Args:
        path: The checkpoint directory.
        model: The model; its parameters are replaced.
        config: Its architecture, which says how the file's keys are read, and the standard
            deviation of weights that are new.
        task: What the model does.
        allow_new_head: Whether pooler and heads may be others in the file than in the model.

    Returns:
        The model's parameters that are new, and the file's weights that were not used.

    Raises:
        CheckpointError: The weights cannot be read or are not those of the model.
    """
    from bert_rt.model.heads import BertForPreTraining, initialize

    weights = {
        config.architecture.to_bert_key(key, task): tensor
        for file in weight_files(path)
        for key, tensor in _read_tensors(file).items()
        if not key.endswith("position_ids")
    }
    state, new, unused = _fit(path, model, weights, allow_new_head=allow_new_head)
    model.to_empty(device="cpu")
    if isinstance(model, BertForPreTraining):
        model.tie_weights()
    fresh = (item for item in model.named_parameters() if item[0] in new)
    initialize(fresh, config.initializer_range)
    model.load_state_dict(state, strict=False)  # copies, and converts to float32
    if new:
        _log.warning("%s: initialized %s", path, _shortened("new", new))
    return tuple(new), tuple(unused)


def _fit(
    path: Path, model: TaskModel, weights: dict[str, Tensor], *, allow_new_head: bool
) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """Match weights to a model: its state_dict, the keys that lack, the keys left over."""
    import torch

    # A bare encoder's keys have no "bert." in front; the weights' have.
    base = "" if hasattr(model, "bert") else "bert."
    wanted = {base + key: (key, tensor.shape) for key, tensor in model.state_dict().items()}
    is_tied = any(key in wanted for key in _TIED)
    for key, source in _TIED.items():
        wanted.pop(key, None)
        if is_tied and key in weights:
            if not torch.equal(weights.setdefault(source, weights[key]), weights[key]):
                raise CheckpointError(f"{path}: {key} differs from {source}, want them tied")
            del weights[key]
    new = sorted(wanted.keys() - weights.keys())
    unused = sorted(weights.keys() - wanted.keys())
    lacking = [key for key in new if not (allow_new_head and _is_head(key))]
    surplus = [
        key
        for key in unused
        if not (allow_new_head and _is_head(key)) and not key.startswith("bert.pooler.")
    ]
    told = [_shortened("missing", lacking)] if lacking else []
    told += [_shortened("unexpected", surplus)] if surplus else []
    if told:
        raise CheckpointError(f"{path}: not a {type(model).__name__}: {' and '.join(told)}")
    state = {}
    for key in sorted(wanted.keys() & weights.keys()):
        name, shape = wanted[key]
        if weights[key].shape != shape or not weights[key].is_floating_point():
            got = f"{weights[key].dtype} {list(weights[key].shape)}"
            raise CheckpointError(f"{path}: {key}: got {got}, want floats of shape {list(shape)}")
        state[name] = weights[key]
    return state, [wanted[key][0] for key in new], unused


def to_safetensors(model: TaskModel, config: BertConfig, task: str) -> bytes:
    """Return the content of model.safetensors: tied weights once, as Transformers writes them.

    Args:
        model: The model.
        config: Its architecture, which says what the keys are called.
        task: What the model does.

    Returns:
        The file's bytes.
    """
    from safetensors.torch import save

    state = {
        config.architecture.from_bert_key(key, task): tensor.detach().cpu().contiguous()
        for key, tensor in model.state_dict().items()
        if key not in _TIED
    }
    content: bytes = save(state, metadata={"format": "pt"})
    return content
