"""Our modules and Hugging Face's: the same keys, and the same numbers from the same checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from bert_rt.model.checkpoint import save_checkpoint
from bert_rt.model.config import BertConfig
from bert_rt.tasks.checkpoints import build_model, load_model
from tests.tolerances import FLOAT32_ATOL

SIZES: dict[str, Any] = {
    "vocab_size": 89,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "max_position_embeddings": 40,
    "type_vocab_size": 3,
    "layer_norm_eps": 1e-7,
}
NUM_LABELS = 3
# Task, their class, and the names of the results in the order of ours.
PAIRS = [
    ("encoder", "BertModel", ("last_hidden_state", "pooler_output")),
    ("pretraining", "BertForPreTraining", ("prediction_logits", "seq_relationship_logits")),
    ("question-answering", "BertForQuestionAnswering", ("start_logits", "end_logits")),
    ("text-classification", "BertForSequenceClassification", ("logits",)),
]


def perturb(model: torch.nn.Module) -> None:
    """Make every parameter matter: biases are not 0, scales not 1, logits some units wide."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))


def make_inputs(seed: int) -> dict[str, torch.Tensor]:
    """Return random ids, token types and masks with holes, shape (B, S), by their names."""
    generator = torch.Generator().manual_seed(seed)
    num_sequences, length = ((1, 1), (2, 7), (5, 40))[seed]
    shape = (num_sequences, length)
    attention_mask = torch.randint(0, 2, shape, generator=generator)
    attention_mask[:, 0] = 1  # Transformers leaves open what a row without any token means.
    return {
        "input_ids": torch.randint(0, SIZES["vocab_size"], shape, generator=generator),
        "attention_mask": attention_mask,
        "token_type_ids": torch.randint(0, 3, shape, generator=generator),
    }


def assert_same_results(ours: torch.nn.Module, theirs: Any, names: tuple[str, ...]) -> None:
    for seed in range(3):
        inputs = make_inputs(seed)
        with torch.inference_mode():
            got = ours(*inputs.values())
            want = theirs(**inputs)
        got = (got,) if isinstance(got, torch.Tensor) else got
        for name, value in zip(names, got, strict=True):
            torch.testing.assert_close(value, want[name], atol=FLOAT32_ATOL, rtol=0)


@pytest.mark.parametrize(("task", "architecture", "names"), PAIRS)
def test_we_read_what_transformers_writes(
    task: str, architecture: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    num_labels = NUM_LABELS if task == "text-classification" else 2
    config = transformers.BertConfig(**SIZES | {"num_labels": num_labels})
    theirs = getattr(transformers, architecture)(config).eval()
    perturb(theirs)
    theirs.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert (loaded.task, loaded.new_keys, loaded.unused_keys) == (task, (), ())
    assert loaded.model.state_dict().keys() == theirs.state_dict().keys()
    assert_same_results(loaded.model, theirs, names)


@pytest.mark.parametrize(("task", "architecture", "names"), PAIRS)
def test_transformers_reads_what_we_write(
    task: str, architecture: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    config = BertConfig(**SIZES)
    ours = build_model(task, config, NUM_LABELS).eval()
    perturb(ours)
    save_checkpoint(tmp_path / "saved", ours, config, tokenizer_files={})
    theirs, info = getattr(transformers, architecture).from_pretrained(
        tmp_path / "saved", output_loading_info=True
    )
    assert not any(info.values()), info
    assert theirs.dtype == torch.float32
    assert_same_results(ours, theirs.eval(), names)


def test_a_masked_language_model_has_only_the_sentence_head_missing(tmp_path: Path) -> None:
    theirs: Any = transformers.BertForMaskedLM(transformers.BertConfig(**SIZES))
    theirs.eval()
    perturb(theirs)
    theirs.save_pretrained(tmp_path)
    loaded = load_model(tmp_path, allow_new_head=True)
    assert loaded.task == "pretraining"
    assert loaded.new_keys == (
        "bert.pooler.dense.bias",
        "bert.pooler.dense.weight",
        "cls.seq_relationship.bias",
        "cls.seq_relationship.weight",
    )
    inputs = make_inputs(1)
    with torch.inference_mode():
        got, _ = loaded.model(*inputs.values())
        want = theirs(**inputs).logits
    torch.testing.assert_close(got, want, atol=FLOAT32_ATOL, rtol=0)


def test_the_shared_checkpoint_answers_as_in_transformers(shared_dir: Path) -> None:
    path = shared_dir / "models" / "minilm-l6-squad"
    theirs: Any = transformers.BertForQuestionAnswering.from_pretrained(path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    inputs = tokenizer(
        ["Who wrote it?", "Where does the river rise?", "When?"],
        [
            "The play was written by Anton Chekhov in 1896.",
            "The Rhine rises in the Swiss Alps and flows through six countries to the sea.",
            "It opened in 1889.",
        ],
        padding=True,
        return_tensors="pt",
    )
    ours = load_model(path).model
    with torch.inference_mode():
        start, end = ours(*(inputs[name] for name in make_inputs(0)))
        want = theirs(**inputs)
    torch.testing.assert_close(start, want.start_logits, atol=FLOAT32_ATOL, rtol=0)
    torch.testing.assert_close(end, want.end_logits, atol=FLOAT32_ATOL, rtol=0)
