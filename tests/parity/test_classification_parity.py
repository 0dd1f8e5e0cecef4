"""Text classification against Transformers: the same loss, gradients and classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from bert_rt.tasks.text_classification.labelled import read_labelled
from bert_rt.tasks.text_classification.sequences import make_sequences
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import TextInput
from tests.tolerances import FLOAT32_ATOL
from tests.unit.compile import tiny_classifier
from train.tasks.text_classification.objective import ClassificationObjective, make_classification

NUM_TEXTS = 24


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_classifier.write_checkpoint(tmp_path_factory.mktemp("parity") / "checkpoint")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [(text, str(i % 2)) for i, text in enumerate(tiny_classifier.texts(NUM_TEXTS, seed=5))]
    return tiny_classifier.write_tsv(tmp_path_factory.mktemp("parity") / "train.tsv", rows)


def make(checkpoint: Path, rows: Path) -> tuple[torch.nn.Module, ClassificationObjective]:
    return make_classification(
        checkpoint, [rows], rows, max_seq_length=32, batch_size=NUM_TEXTS, seed=0
    )


def test_loss_and_gradients(checkpoint: Path, rows: Path) -> None:
    model, objective = make(checkpoint, rows)
    theirs: Any = transformers.BertForSequenceClassification.from_pretrained(checkpoint)
    batch = objective.micro_batch(0).tensors
    # Dropout off on both sides: the two draw in another order.
    loss, _ = objective.loss(model.eval(), batch)
    loss.backward()
    want = theirs.eval()(**batch).loss
    want.backward()
    assert want.item() > 0.1
    torch.testing.assert_close(loss, want, atol=FLOAT32_ATOL, rtol=0)
    wanted = dict(theirs.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name].grad, atol=FLOAT32_ATOL, rtol=0)
    assert max(p.grad.abs().max().item() for p in model.parameters()) > 100 * FLOAT32_ATOL


def test_the_same_tokens(checkpoint: Path, rows: Path) -> None:
    theirs = transformers.BertTokenizerFast(str(checkpoint / "vocab.txt"))
    tokenizer = Tokenizer.from_directory(checkpoint)
    texts = [example.input.text for example in read_labelled(rows)]
    inputs = [TextInput(a, b) for a, b in zip(texts, texts[1:] + texts[:1], strict=True)]
    inputs += [TextInput(text) for text in texts]
    # Room for 14 tokens of a pair. Of an odd number the paper's code gives the first text one more,
    # Transformers the second.
    got = list(make_sequences(inputs, tokenizer, max_seq_length=17))
    for item, sequence in zip(inputs, got, strict=True):
        want = theirs(item.text, item.text_pair, truncation=True, max_length=17)
        assert sequence.input_ids.tolist() == want["input_ids"]
        assert sequence.token_type_ids.tolist() == want["token_type_ids"]


def test_transformers_reads_what_is_saved(checkpoint: Path, rows: Path, tmp_path: Path) -> None:
    model, objective = make(checkpoint, rows)
    objective.save(model, tmp_path / "saved")
    theirs: Any = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "saved")
    assert theirs.config.id2label == dict(enumerate(tiny_classifier.LABELS))
    assert theirs.config.problem_type == "single_label_classification"
    batch = dict(objective.micro_batch(0).tensors)
    del batch["labels"]
    with torch.inference_mode():
        want = theirs.eval()(**batch).logits
        got = model.eval()(*batch.values())
    torch.testing.assert_close(got, want, atol=FLOAT32_ATOL, rtol=0)
    assert np.ptp(want.numpy()) > 1000 * FLOAT32_ATOL
