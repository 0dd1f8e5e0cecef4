"""Our tokenizers against those of Transformers 4.57.6, over generated checkpoints.

Transformers 4 lives in an environment of its own (`make .venv4/.made`; `make test` makes it), for
the tests' own one has Transformers 5.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bert_rt.errors import CheckpointError
from bert_rt.text.tokenization import Tokenizer
from tests.golden.checkpoints.tokenizer_cases import CASES
from tests.support.tokenizer_checkpoints import CONTROL_TEXTS, TEXTS, write_checkpoint

_ROOT = Path(__file__).resolve().parents[2]
_SCRIPT = _ROOT / "tests" / "support" / "transformers4.py"
_LEARNED = ("bert", "electra")
_NUM_CHECKPOINTS = int(os.environ.get("BERT_RT_TOKENIZER_CHECKPOINTS", "300"))
_SEED = int(os.environ.get("BERT_RT_TOKENIZER_SEED", "0"))


def reference(
    python: Path,
    directories: Sequence[Path],
    texts: Sequence[str],
    saved: Mapping[Path, Path] | None = None,
) -> list[Any]:
    """Return what Transformers 4.57.6 makes of texts, one object a checkpoint.

    Those that are saved are read and written by it first, from key to value.
    """
    out = directories[0].parent / "reference.jsonl"
    request = {
        "directories": [*map(str, directories)],
        "texts": [*texts],
        "saved": {str(key): str(value) for key, value in (saved or {}).items()},
    }
    subprocess.run(
        [python, _SCRIPT, out],
        input=json.dumps(request),
        text=True,
        check=True,
        capture_output=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"},
    )
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def ours(directory: Path) -> Tokenizer | str:
    try:
        return Tokenizer.from_directory(directory)
    except CheckpointError as error:
        return str(error)


def difference(directory: Path, tokenizer: Tokenizer, theirs: dict[str, Any]) -> str | None:
    """Say what is different; None where nothing is."""
    for i, (text, want) in enumerate(zip(TEXTS, theirs["ids"], strict=True)):
        got = tokenizer.encode(text).input_ids.tolist()
        if got != want:
            names = {index: token for token, index in tokenizer.get_vocab().items()}
            return f"{text!r}: {[names[x] for x in got]}, want {theirs['tokens'][i]}"
    a, b = theirs["pair_parts"]
    ends = [tokenizer.sep_id]
    pair = [tokenizer.cls_id, *a, *ends * tokenizer.num_separators, *b, *ends]
    if pair != theirs["pair"]:
        return f"pair: {pair}, want {theirs['pair']}"
    # Other architectures do not look at token types.
    learned = json.loads((directory / "config.json").read_bytes())["model_type"] in _LEARNED
    if learned and tokenizer.second_type_id != theirs["second_type"]:
        return f"second_type_id: {tokenizer.second_type_id}, want {theirs['second_type']}"
    if theirs["mask"] is not None and tokenizer.mask_id != theirs["mask"]:
        return f"mask_id: {tokenizer.mask_id}, want {theirs['mask']}"
    return None


def test_generated_checkpoints_have_the_tokens_of_transformers(
    transformers4: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("ERROR")  # hundreds warn of what goes over tokenizer.json
    names = [f"{_SEED}-{index}" for index in range(_NUM_CHECKPOINTS)]
    directories = [tmp_path / name for name in names]
    for directory in directories:
        write_checkpoint(directory, random.Random(directory.name))
    # Every third, as Transformers itself writes it once tokens were added.
    saved = {directory: tmp_path / f"{directory.name}-saved" for directory in directories[::3]}
    everything = [*directories, *saved.values()]
    wanted = dict(zip(everything, reference(transformers4, everything, TEXTS, saved), strict=True))
    kinds: Counter[str] = Counter()
    wrong = []
    for directory, want in wanted.items():
        if not directory.is_dir():
            continue
        kind, mismatch = compare(directory, want)
        kinds[kind] += 1
        if mismatch is not None:
            wrong.append(f"{directory.name}: {mismatch}")
    assert not wrong, f"{len(wrong)} of {kinds}:\n" + "\n".join(wrong[:20])
    assert kinds["loaded"] > len(everything) / 2, kinds


def compare(directory: Path, want: dict[str, Any]) -> tuple[str, str | None]:
    """Load a checkpoint and say what came of it, and what is wrong about that."""
    got = ours(directory)
    if isinstance(got, str):
        # By name: a file or directory, and what is wrong with which field.
        if not got.startswith(str(directory)) or len(got.splitlines()) != 1:
            return "refused", f"refused with {got!r}"
        return ("both refuse" if "error" in want else "ours refuses"), None
    if "error" in want:
        return "loaded", f"loaded, want {want['error']}"
    mismatch = difference(directory, got, want)
    control = {got.cls_id, got.sep_id, got.pad_id, got.mask_id}
    again = Tokenizer.from_bytes(got.to_json())
    for text in (*CONTROL_TEXTS, *TEXTS):
        ids = got.encode(text).input_ids.tolist()
        if control & {*ids}:
            return "loaded", f"a control token in {text!r}"
        if again.encode(text).input_ids.tolist() != ids:
            return "loaded", f"the artifact has other tokens of {text!r}"
    return "loaded", mismatch


def test_reported_checkpoints_have_the_tokens_of_transformers(
    transformers4: Path, tmp_path: Path
) -> None:
    directories = [tmp_path / str(index) for index in range(len(CASES))]
    texts = [case.text for case in CASES.values()]
    for directory, case in zip(directories, CASES.values(), strict=True):
        case.write(directory)
    for index, want in enumerate(reference(transformers4, directories, texts)):
        name, case = [*CASES.items()][index]
        assert "error" not in want, (name, want)
        assert " ".join(want["tokens"][index]) == case.tokens, name
