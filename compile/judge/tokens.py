"""Whether an artifact splits text as its checkpoint does.

The gate compares float and INT8 behind one tokenizer, so a wrong one would pass: what was read of
the checkpoint is compared with what is written, and with Transformers where that is installed.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bert_rt.errors import CompileError
from bert_rt.tasks.base import SelfTestItem, Task
from bert_rt.tasks.selftest import self_test_texts
from bert_rt.text.probing import difference, probing_texts
from bert_rt.text.tokenization import Tokenizer

__all__ = ["check_token_ids", "check_tokenizer"]

_log = logging.getLogger(__name__)


def check_tokenizer(directory: Path, tokenizer: Tokenizer) -> None:
    """Check a checkpoint's tokenizer before anything is compiled with it.

    Args:
        directory: The checkpoint.
        tokenizer: What was read of it.

    Raises:
        CompileError: The tokenizer.json that the artifact gets gives other tokens, or Transformers
            4 is installed and does. What another Transformers does otherwise is a warning.
    """
    mismatch = difference(tokenizer, Tokenizer.from_bytes(tokenizer.to_json()))
    if mismatch is not None:
        raise CompileError(f"tokenizer: the artifact's is another than {directory}'s: {mismatch}")
    if importlib.util.find_spec("transformers") is None:
        return
    version, mismatch = _against_transformers(directory, tokenizer)
    if mismatch is None:
        return
    if version.startswith("4."):
        raise CompileError(f"tokenizer: another than in Transformers {version}: {mismatch}")
    _log.warning(
        "%s: Transformers %s, not 4, splits text otherwise: %s", directory, version, mismatch
    )


def _against_transformers(directory: Path, tokenizer: Tokenizer) -> tuple[str, str | None]:
    """Return the version of Transformers, and what it does otherwise."""
    import transformers

    try:
        theirs = transformers.AutoTokenizer.from_pretrained(directory, local_files_only=True)
    # It raises what it comes upon: of what it cannot read there is nothing to compare.
    except Exception as error:
        _log.info("%s: Transformers cannot read the tokenizer: %s", directory, error)
        return transformers.__version__, None
    for text in probing_texts(tokenizer):
        got = tokenizer.encode(text).input_ids.tolist()
        want = list(theirs(text, add_special_tokens=False)["input_ids"])
        if got != want:
            return (
                transformers.__version__,
                f"{text!r} becomes {got} here, {theirs.convert_ids_to_tokens(want)} there",
            )
    return transformers.__version__, None


def check_token_ids(
    items: Sequence[SelfTestItem], task: Task[Any, Any, Any], tokenizer: Tokenizer
) -> None:
    """Check the token ids that an artifact's self-test holds against the checkpoint's tokenizer.

    Args:
        items: What the compiled model gave, by the artifact's own tokenizer.
        task: The artifact's.
        tokenizer: The checkpoint's.

    Raises:
        CompileError: They are others.
    """
    for index, item in enumerate(items):
        want = [tokenizer.encode(text).input_ids.tolist() for text in self_test_texts(task, item)]
        if item["token_ids"] != want:
            raise CompileError(
                f"self_test[{index}].token_ids: got {item['token_ids']}, want {want}, the "
                "checkpoint's own"
            )
