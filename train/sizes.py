"""The architecture of a model that begins with new weights: a named size, or a file."""

from __future__ import annotations

from pathlib import Path

from bert_rt.errors import ConfigError
from bert_rt.model import head
from bert_rt.model.config import BERT_SIZES, BertConfig, from_dict
from bert_rt.support.files import read_text
from bert_rt.support.strict_json import parse_json

__all__ = ["new_config"]


def new_config(model: str) -> tuple[BertConfig, bool]:
    """Read the architecture of a new model.

    Args:
        model: A name of BERT_SIZES, or a CONFIG.json.

    Returns:
        The architecture, and whether it says how many embeddings it has.

    Raises:
        ConfigError: There is no such size or file, or the file describes no BERT.
        InputError: The file cannot be read.
    """
    if model in BERT_SIZES:
        return BERT_SIZES[model], False
    file = Path(model)
    if not file.is_file():
        raise ConfigError(f"model: got {model!r}, want one of {', '.join(BERT_SIZES)} or a file")
    try:
        values = parse_json(read_text(file).encode(), max_bytes=1 << 20)
    except ValueError as error:
        raise ConfigError(f"model: {file}: not JSON: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"model: {file}: got {type(values).__name__}, want an object")
    # Of another architecture, its fields would be read as BERT's.
    head.PRETRAINING.check_fits(values.get("model_type", "bert"))
    return from_dict(BertConfig, values, strict=False), "vocab_size" in values
