"""The tensors of a checkpoint: found, read, fitted to a model, serialized.

Its names are for the module checkpoint, which is the one to call. torch and safetensors are
imported when they are first used.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bert_rt.errors import CheckpointError
from bert_rt.support.strict_json import parse_foreign

if TYPE_CHECKING:
    from torch import Tensor

    from bert_rt.model.config import BertConfig
    from bert_rt.model.encoder import TaskModel
    from bert_rt.model.head import HeadSpec

__all__ = [
    "WEIGHTS_NAME",
    "check_tensor",
    "load_weights",
    "parse_object",
    "read_weights",
    "shortened",
    "to_safetensors",
    "weight_files",
]

WEIGHTS_NAME = "model.safetensors"
_PICKLED = "pytorch_model.bin"
# In the order in which Transformers looks for them.
_NAMES = (WEIGHTS_NAME, f"{WEIGHTS_NAME}.index.json", _PICKLED, f"{_PICKLED}.index.json")
# What may be there instead, and cannot be read.
_OTHERS = ("tf_model.h5", "flax_model.msgpack", "adapter_model.safetensors", "adapter_model.bin")
_MAX_JSON_BYTES = 1 << 28
# The decoder is the word embeddings and the bias beside it, under second names.
_TIED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
# What wrappers of a model put in front of all its keys: DataParallel, torch.compile, a trainer.
_WRAPPERS = ("module.", "_orig_mod.", "model.")
_FORMATS = ("pt", "mlx")  # the second has the names and shapes of the first
_log = logging.getLogger(__name__)


def parse_object(data: bytes, path: Path) -> dict[str, Any]:
    """Parse a JSON object that another program wrote, as parse_foreign does.

    Args:
        data: The JSON text.
        path: Where it stands, for the error's message.

    Returns:
        The object.

    Raises:
        CheckpointError: The text is not JSON, or its value is not an object.
    """
    try:
        value = parse_foreign(data, max_bytes=_MAX_JSON_BYTES)
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
        model.safetensors; else the shards of its index, sorted; else pytorch_model.bin; else the
        shards of its index.

    Raises:
        CheckpointError: There is none of them, or the index names a file that is not there.
    """
    for name in _NAMES:
        file = path / name
        if file.is_file():
            return _shards(file) if file.suffix == ".json" else [file]
    others = [name for name in _OTHERS if (path / name).is_file()]
    got = f"; got {', '.join(others)}, which cannot be read" if others else ""
    raise CheckpointError(f"{path}: no weights in it, want {', '.join(_NAMES)}{got}")


def _shards(index: Path) -> list[Path]:
    names = parse_object(index.read_bytes(), index).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(v, str) for v in names.values()):
        raise CheckpointError(f"{index}: no weight_map of file names in it")
    for name in set(names.values()):
        if Path(name).name != name or not (index.parent / name).is_file():
            raise CheckpointError(f"{index}: no file {name!r} beside it")
    return [index.parent / name for name in sorted(set(names.values()))]


def _read_tensors(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        return _read_safetensors(file)
    import torch

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


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(file, "pt") as opened:
            written_by = (opened.metadata() or {}).get("format", "pt")
        if written_by not in _FORMATS:
            raise CheckpointError(
                f"{file}: metadata format: got {written_by!r}, want one of {_FORMATS} or none: "
                "other programs have other names and shapes"
            )
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: not a whole safetensors file: {error}") from error


def read_weights(path: Path) -> list[tuple[str, Tensor]]:
    """Read all weights of a checkpoint.

    Args:
        path: The checkpoint directory.

    Returns:
        Keys as in its files, but for what wrappers of a model put in front of all; and tensors.

    Raises:
        CheckpointError: The weights cannot be read.
    """
    files = weight_files(path)
    pairs = [item for file in files for item in _read_tensors(file).items()]
    while wrapper := next((w for w in _WRAPPERS if all(k.startswith(w) for k, _ in pairs)), None):
        if not pairs:
            break
        pairs = [(key.removeprefix(wrapper), tensor) for key, tensor in pairs]
    return pairs


def _read_all(path: Path, config: BertConfig, head: HeadSpec) -> dict[str, Tensor]:
    """Read all weights of a checkpoint, under BERT's names."""
    pairs = read_weights(path)
    weights: dict[str, Tensor] = {}
    own_keys: dict[str, str] = {}
    for own, tensor in pairs:
        key = config.architecture.to_bert_key(own, head)
        if key in weights:
            raise CheckpointError(f"{path}: got both {own_keys[key]} and {own}, which are the same")
        weights[key], own_keys[key] = tensor, own
    return weights


def shortened(what: str, keys: Collection[str]) -> str:
    """Count keys and name the first three, for messages."""
    return f"{len(keys)} {what} keys ({', '.join(sorted(keys)[:3])}{', ...' * (len(keys) > 3)})"


def load_weights(
    path: Path, model: TaskModel, config: BertConfig, *, allow_new_head: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give a model without storage (torch's "meta" device) a checkpoint's weights, on the CPU.

    Args:
        path: The checkpoint directory.
        model: The model; its parameters are replaced.
        config: Its architecture, which says how the file's keys are read, and the standard
            deviation of weights that are new.
        allow_new_head: Whether pooler and heads may be others in the file than in the model.

    Returns:
        The model's parameters that are new, and the file's weights that were not used; one line
        of warning names either.

    Raises:
        CheckpointError: The weights cannot be read or are not those of the model.
    """
    from bert_rt.model.encoder import initialize
    from bert_rt.model.heads import BertForPreTraining

    weights = _read_all(path, config, model.spec)
    state, new, unused = _fit(path, model, weights, config, allow_new_head=allow_new_head)
    if unused:
        _log.warning("%s: ignored %s", path, shortened("surplus", unused))
    model.to_empty(device="cpu")
    if isinstance(model, BertForPreTraining):
        model.tie_weights()
    fresh = (item for item in model.named_parameters() if item[0] in new)
    initialize(fresh, config.initializer_range)
    model.load_state_dict(state, strict=False)  # copies, and converts to float32
    if new:
        _log.warning("%s: initialized %s", path, shortened("new", new))
    return tuple(new), tuple(unused)


def _fit(
    path: Path,
    model: TaskModel,
    weights: dict[str, Tensor],
    config: BertConfig,
    *,
    allow_new_head: bool,
) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """Match weights to a model: its state_dict, the missing keys, the keys left over."""
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
    architecture = config.architecture
    # More of the model's own head than it has means another head.
    own = tuple(f"{name}." for name, _ in model.named_children() if name != "bert")

    def may_differ(key: str) -> bool:
        return allow_new_head and not architecture.is_encoder_key(key)

    missing = [key for key in new if not may_differ(key)]
    surplus = [
        key
        for key in unused
        if not may_differ(key) and (key.startswith(own) or not architecture.is_leftover(key))
    ]
    faults = [shortened("missing", missing)] if missing else []
    faults += [shortened("unexpected", surplus)] if surplus else []
    if faults:
        raise CheckpointError(f"{path}: not a {type(model).__name__}: {' and '.join(faults)}")
    state = {}
    for key in sorted(wanted.keys() & weights.keys()):
        name, shape = wanted[key]
        check_tensor(path, key, weights[key], shape)
        state[name] = weights[key]
    return state, [wanted[key][0] for key in new], unused


def check_tensor(path: Path, key: str, tensor: Tensor, shape: Sequence[int]) -> None:
    """Refuse a weight that has not the shape of the model's, or holds no floats."""
    if tuple(tensor.shape) != tuple(shape) or not tensor.is_floating_point():
        got = f"{tensor.dtype} {list(tensor.shape)}"
        raise CheckpointError(f"{path}: {key}: got {got}, want floats of shape {list(shape)}")


def to_safetensors(model: TaskModel, config: BertConfig) -> bytes:
    """Return the content of model.safetensors: tied weights once, as Transformers writes them.

    Args:
        model: The model.
        config: Its architecture, which says what the keys are called.

    Returns:
        The file's bytes.
    """
    from safetensors.torch import save

    state = {
        config.architecture.from_bert_key(key, model.spec): tensor.detach().cpu().contiguous()
        for key, tensor in model.state_dict().items()
        if key not in _TIED
    }
    content: bytes = save(state, metadata={"format": "pt"})
    return content
