"""The task's part in fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bert_rt.model.checkpoint import read_tokenizer_files, save_checkpoint
from bert_rt.tasks.checkpoints import load_model
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import TokenSequence
from tests.support.toy_task.task import Example, WordShares, encode
from train.data.batching import EpochBatches, Padding
from train.loop.objective import MicroBatch
from train.recipes import Recipe
from train.tasks.base import Setup, TrainTask

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True, kw_only=True)
class Options:
    huber_delta: float = 1.0


class Objective:
    name = "word-shares"
    best_metric = "closeness"
    trivial_loss: float | None = None

    def __init__(self, loaded: Any, setup: Setup, rows: Any, held_out: Any) -> None:
        self._loaded = loaded
        self._setup = setup
        self._rows: list[tuple[TokenSequence, Example]] = rows
        self._held_out: list[tuple[TokenSequence, Example]] = held_out
        self.padding = Padding(loaded.config.max_sequence_length)
        lengths = [sequence.num_tokens for sequence, _ in rows]
        self._batches = EpochBatches(lengths, setup.batch_size, setup.seed)
        self.num_micro_batches = self._batches.num_batches

    def micro_batch(self, index: int) -> MicroBatch:
        tensors = self._tensors([self._rows[i] for i in self._batches[index]])
        return MicroBatch(
            tensors, int(tensors["attention_mask"].sum()), tensors["input_ids"].numel()
        )

    def loss(
        self, model: nn.Module, tensors: Mapping[str, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        got = model(*(tensors[name] for name in _INPUTS)).float()
        return F.huber_loss(got, tensors["shares"], delta=self._setup.options.huber_delta), {}

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        if not self._held_out:
            return {}
        tensors = self._tensors(self._held_out)
        error = (model(*(tensors[name] for name in _INPUTS)) - tensors["shares"]).abs().mean()
        return {"closeness": float(100 * (1 - error))}

    def save(self, model: Any, directory: Path) -> None:
        files = read_tokenizer_files(self._setup.model_dir)
        save_checkpoint(
            directory,
            model,
            self._loaded.config,
            tokenizer_files=files,
            extra=self._loaded.raw_config,
        )

    def _tensors(self, rows: Sequence[tuple[TokenSequence, Example]]) -> dict[str, Tensor]:
        ids = [sequence.input_ids for sequence, _ in rows]
        pad = self.padding.rectangle
        arrays = {
            "input_ids": pad(ids, self._loaded.config.pad_token_id),
            "attention_mask": pad([np.ones_like(row) for row in ids], 0),
            "token_type_ids": pad([np.zeros_like(row) for row in ids], 0),
            "shares": np.array([example.shares for _, example in rows], np.float32),
        }
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


class TrainWordShares(TrainTask):
    task = WordShares()
    options_class = Options

    def default_recipe(self) -> Recipe:
        return Recipe(batch_size=16, max_seq_length=40, options={"learning_rate": 3e-3})

    def make(self, setup: Setup) -> tuple[nn.Module, Objective]:
        torch.manual_seed(setup.seed)
        is_new = setup.weights_dir is None
        directory = setup.model_dir if is_new else setup.weights_dir
        assert directory is not None
        loaded = load_model(directory, self.task.name, allow_new_head=is_new)
        tokenizer = Tokenizer.from_directory(setup.model_dir)

        def read(path: Path | None) -> list[tuple[TokenSequence, Example]]:
            examples = self.task.read_examples(path, setup.layout, ()) if path else []
            length = setup.limits.max_seq_length
            return [(encode(example.text, tokenizer, length), example) for example in examples]

        rows = [row for file in setup.train_files for row in read(file)]
        return loaded.model, Objective(loaded, setup, rows, read(setup.validation_file))
