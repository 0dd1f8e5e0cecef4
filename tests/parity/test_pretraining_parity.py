"""Pretraining as in Transformers: the same loss and gradients, and a tokenizer that it reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from bert_rt.model.config import BertConfig
from bert_rt.text.tokenization import Tokenizer
from tests.parity.test_transformers import SIZES, perturb
from tests.support.data.corpora import tokenizer_files, write_text
from tests.support.data.text import VOCAB
from tests.tolerances import FLOAT32_ATOL
from train.tasks.pretraining import make_pretraining
from train.vocab import train_vocabulary

_SIZES = SIZES | {"vocab_size": len(VOCAB) + 3}


@pytest.mark.parametrize("whole_word_masking", [False, True])
def test_loss_and_gradients(whole_word_masking: bool, tmp_path: Path) -> None:
    ours, objective = make_pretraining(
        [write_text(tmp_path / "a.txt")],
        BertConfig(**_SIZES),
        tokenizer_files(),
        tmp_path / "cache",
        max_seq_length=40,
        batch_size=6,
        whole_word_masking=whole_word_masking,
    )
    theirs: Any = transformers.BertForPreTraining(transformers.BertConfig(**_SIZES))
    perturb(ours)
    theirs.load_state_dict(ours.state_dict())
    ours.eval()
    theirs.eval()
    for index in range(3):
        tensors = objective.micro_batch(index).tensors
        loss, parts = objective.loss(ours, tensors)
        labels = torch.full_like(tensors["input_ids"], -100)
        labels.view(-1)[tensors["masked_positions"]] = tensors["masked_labels"]
        wanted = theirs(
            input_ids=tensors["input_ids"],
            attention_mask=tensors["attention_mask"],
            token_type_ids=tensors["token_type_ids"],
            labels=labels,
            next_sentence_label=tensors["next_sentence_labels"],
        )
        torch.testing.assert_close(loss, wanted.loss, atol=FLOAT32_ATOL, rtol=0)
        assert parts["mlm_loss"] + parts["nsp_loss"] == loss.detach()
        ours.zero_grad()
        theirs.zero_grad()
        loss.backward()
        wanted.loss.backward()
        gradients = dict(theirs.named_parameters())
        for name, parameter in ours.named_parameters():
            torch.testing.assert_close(
                parameter.grad, gradients[name].grad, atol=FLOAT32_ATOL, rtol=0, msg=name
            )


@pytest.mark.parametrize("cased", [False, True])
def test_transformers_reads_our_vocabulary(cased: bool, tmp_path: Path) -> None:
    files = train_vocabulary(
        [write_text(tmp_path / "a.txt")], vocab_size=90, cased=cased, min_frequency=1
    )
    directory = tmp_path / "tokenizer"
    directory.mkdir()
    for name, content in files.items():
        (directory / name).write_bytes(content)
    theirs = transformers.AutoTokenizer.from_pretrained(directory)
    ours = Tokenizer.from_bytes(files["tokenizer.json"])
    text = "The CAT sat, who is unaff xyz in Paris?"
    assert (
        theirs(text, add_special_tokens=False)["input_ids"] == ours.encode(text).input_ids.tolist()
    )
    assert (theirs.cls_token_id, theirs.sep_token_id) == (ours.cls_id, ours.sep_id) == (2, 3)
    assert (theirs.pad_token_id, theirs.mask_token_id) == (ours.pad_id, ours.mask_id) == (0, 4)
