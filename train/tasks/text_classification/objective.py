"""Text classification: labelled texts -> sequences with their classes -> cross-entropy.

Shapes: B texts, S padded length, C classes, Q texts of a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from bert_rt.engines.packing import plan_batches
from bert_rt.errors import ConfigError
from bert_rt.model.checkpoint import (
    LoadedModel,
    label_names,
    read_config,
    read_tokenizer_files,
    save_checkpoint,
)
from bert_rt.model.labels import class_index
from bert_rt.support.faults import Dropped
from bert_rt.tasks.checkpoints import load_model
from bert_rt.tasks.metrics import macro_f1
from bert_rt.tasks.text_classification.labelled import (
    LabelledText,
    class_indices,
    class_names,
    encode_labelled,
    read_labelled,
)
from bert_rt.tasks.text_classification.rows import Columns
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import TokenSequence
from train.data.batching import EpochBatches, Padding
from train.loop.objective import MicroBatch

__all__ = ["ClassificationObjective", "choose_labels", "make_classification"]

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_EVALUATION_TOKENS = 8192


class ClassificationObjective:
    """The objective of text classification; see train.loop.objective.Objective."""

    name = "text-classification"

    def __init__(
        self,
        loaded: LoadedModel,
        training: tuple[Sequence[TokenSequence], Sequence[int]],
        held_out: tuple[Sequence[TokenSequence], Sequence[int]],
        labels: Sequence[str],
        tokenizer_files: Mapping[str, bytes],
        *,
        batch_size: int,
        seed: int,
    ) -> None:
        """Hold the data.

        Args:
            loaded: The model and what its checkpoint says.
            training: Sequences to train on, and the class of each.
            held_out: Likewise, to evaluate on; empty for no evaluation.
            labels: Names of the classes, in the order of the logits.
            tokenizer_files: What is written beside the weights.
            batch_size: Texts of a micro-batch.
            seed: Decides their order.
        """
        self.best_metric = "accuracy"
        self._loaded = loaded
        self._sequences, classes = training
        self._class_Q = np.asarray(classes, np.int64)
        self._held_out, held_out_classes = held_out
        self._held_out_class_Q = np.asarray(held_out_classes, np.int64)
        self._labels = tuple(labels)
        self.padding = Padding(loaded.config.max_sequence_length)
        self._tokenizer_files = tokenizer_files
        lengths = [sequence.num_tokens for sequence in self._sequences]
        self._batches = EpochBatches(lengths, batch_size, seed)
        self.num_micro_batches = self._batches.num_batches
        self.trivial_loss: float | None = _entropy(self._class_Q)

    def micro_batch(self, index: int) -> MicroBatch:
        """Make the index-th micro-batch, padded to its longest text."""
        chosen = self._batches[index]
        sequences = [self._sequences[i] for i in chosen]
        tensors = self._inputs(sequences)
        tensors["labels"] = torch.from_numpy(self._class_Q[chosen])
        num_tokens = sum(sequence.num_tokens for sequence in sequences)
        return MicroBatch(tensors, num_tokens, tensors["input_ids"].numel())

    def loss(
        self, model: nn.Module, tensors: Mapping[str, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Compute the mean cross-entropy, and "train_accuracy" in percent."""
        logits_BC = model(*(tensors[name] for name in _INPUTS)).float()
        labels_B = tensors["labels"]
        hits = (logits_BC.detach().argmax(-1) == labels_B).float().mean()
        return F.cross_entropy(logits_BC, labels_B), {"train_accuracy": 100 * hits}

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """Classify the held-out texts: "accuracy" and "macro_f1", in percent."""
        if not self._held_out:
            return {}
        device = next(model.parameters()).device
        predicted_Q = np.empty_like(self._held_out_class_Q)
        lengths = [sequence.num_tokens for sequence in self._held_out]
        for batch in plan_batches(lengths, max_tokens=_EVALUATION_TOKENS, is_packed=False):
            tensors = self._inputs([self._held_out[i] for i in batch])
            logits_BC = model(*(tensors[name].to(device) for name in _INPUTS))
            predicted_Q[batch] = logits_BC.argmax(-1).cpu().numpy()
        return {
            "accuracy": float(100 * (predicted_Q == self._held_out_class_Q).mean()),
            "macro_f1": macro_f1(predicted_Q, self._held_out_class_Q),
        }

    def save(self, model: nn.Module, directory: Path) -> None:
        """Write a checkpoint that compile.export reads, with the classes' names."""
        names = {str(index): name for index, name in enumerate(self._labels)}
        kind = "single_label_classification"
        save_checkpoint(
            directory,
            model,  # type: ignore[arg-type]
            self._loaded.config,
            tokenizer_files=self._tokenizer_files,
            extra={**self._loaded.raw_config, "id2label": names, "problem_type": kind},
        )

    def _inputs(self, sequences: Sequence[TokenSequence]) -> dict[str, Tensor]:
        """Pad sequences: three tensors of shape (B, S), int64."""
        arrays = self.padding.inputs(sequences, self._loaded.config.pad_token_id)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _entropy(class_Q: NDArray[np.int64]) -> float:
    counts = np.bincount(class_Q)
    shares = counts[counts > 0] / len(class_Q)
    return float(-(shares * np.log(shares)).sum())


def choose_labels(
    examples: Sequence[LabelledText],
    raw_config: Mapping[str, Any],
    given: Sequence[str] | None = None,
) -> tuple[str, ...]:
    """Choose the classes of a model that is to be trained.

    Args:
        examples: The training data.
        raw_config: All of config.json of the checkpoint that training starts from.
        given: The user's own names, if any.

    Returns:
        The names in the order of the logits: the user's; else those of a checkpoint that
        classifies already, where they cover the data's labels; else the data's labels.

    Raises:
        ConfigError: The user gave less than two names, or one twice.
        InputError: The data have less than two classes.
    """
    if given is not None:
        if len(given) < 2 or len(set(given)) < len(given):
            raise ConfigError(f"label_names: got {list(given)}, want two or more different names")
        return tuple(given)
    architectures = raw_config.get("architectures")
    # Without any, names of classes say as much.
    is_classifier = raw_config.get("id2label") is not None
    if isinstance(architectures, list) and architectures:
        is_classifier = str(architectures[0]).endswith("ForSequenceClassification")
    if is_classifier:
        names = label_names(raw_config)
        if all(class_index(label, names) is not None for label in {e.label for e in examples}):
            return names
    return class_names(examples)


def _check_length(max_seq_length: int, longest: int) -> None:
    if not 8 <= max_seq_length <= longest:
        raise ConfigError(f"max_seq_length: got {max_seq_length}, want 8 to the model's {longest}")


def _read(
    files: Sequence[Path], columns: Columns | None, dropped: Dropped | None
) -> list[LabelledText]:
    return [row for file in files for row in read_labelled(file, columns, dropped=dropped)]


def make_classification(
    model_dir: Path,
    train_files: Sequence[Path],
    validation_file: Path | None,
    *,
    weights_dir: Path | None = None,
    columns: Columns | None = None,
    labels: Sequence[str] | None = None,
    max_seq_length: int = 128,
    batch_size: int = 32,
    seed: int = 0,
    dropped: Dropped | None = None,
) -> tuple[nn.Module, ClassificationObjective]:
    """Load a model and its data.

    Args:
        model_dir: The checkpoint that training starts from.
        train_files: Files of labelled texts, one behind the other.
        validation_file: A file of labelled texts, or None.
        weights_dir: A checkpoint of the run that is resumed, or None.
        columns: Which columns of the files hold what.
        labels: Names of the classes, in the order of the logits; None as choose_labels says.
        max_seq_length: Most tokens of a sequence; what is longer is cut off.
        batch_size: Texts of a micro-batch.
        seed: Decides the order of the data, and the head's weights where there are none.
        dropped: As in read_labelled, for all files.

    Returns:
        The model and its objective.

    Raises:
        InputError: A file is damaged, a label no class, or a row a pair that the model cannot take.
        CheckpointError: The checkpoint cannot be read, or its head has other classes.
        ConfigError: The sequences are longer than the model takes, or labels are no names.
    """
    config, raw_config = read_config(model_dir)
    _check_length(max_seq_length, config.max_sequence_length)
    training = _read(train_files, columns, dropped)
    held_out = _read([validation_file] if validation_file else [], columns, dropped)
    names = choose_labels(training, raw_config, labels)
    tokenizer = Tokenizer.from_directory(model_dir)
    torch.manual_seed(seed)
    loaded = load_model(
        weights_dir or model_dir,
        ClassificationObjective.name,
        allow_new_head=weights_dir is None,
        num_labels=len(names),
    )
    encode = partial(_encode, names, tokenizer, max_seq_length, config.num_token_types)
    objective = ClassificationObjective(
        loaded,
        encode(training),
        encode(held_out),
        names,
        read_tokenizer_files(model_dir),
        batch_size=batch_size,
        seed=seed,
    )
    return cast("nn.Module", loaded.model), objective


def _encode(
    names: Sequence[str],
    tokenizer: Tokenizer,
    max_seq_length: int,
    num_token_types: int,
    rows: Sequence[LabelledText],
) -> tuple[list[TokenSequence], list[int]]:
    # Labels first: they take no time.
    classes = class_indices(rows, names)
    sequences = encode_labelled(
        rows, tokenizer, max_seq_length=max_seq_length, num_token_types=num_token_types
    )
    return sequences, classes
