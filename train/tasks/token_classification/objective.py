"""Token classification: labelled words -> windows with their labels -> cross-entropy.

The label of a word is learnt at its first token; its other tokens, and what another window shows
better, have none.

Shapes: B windows, S padded length, C labels, W words of a text, N words of all texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from bert_rt.engines.packing import plan_batches
from bert_rt.errors import ConfigError, InputError
from bert_rt.model.checkpoint import (
    LoadedModel,
    label_names,
    read_config,
    read_tokenizer_files,
    save_checkpoint,
)
from bert_rt.model.labels import class_index
from bert_rt.tasks.checkpoints import load_model
from bert_rt.tasks.limits import WindowLimits
from bert_rt.tasks.metrics import macro_f1
from bert_rt.tasks.token_classification.chunks import has_prefixes
from bert_rt.tasks.token_classification.evaluation import chunk_counts, f1_of_counts
from bert_rt.tasks.token_classification.head_spec import HEAD
from bert_rt.tasks.token_classification.labelled import (
    LabelledWords,
    read_labelled,
    tag_indices,
    tag_names,
)
from bert_rt.tasks.token_classification.tagging import (
    PreparedWords,
    TokenClassification,
    prepare_words,
    word_logits,
)
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import Feature
from train.data.batching import EpochBatches, Padding
from train.loop.objective import MicroBatch
from train.tasks.base import Setup

__all__ = ["TaggedText", "TaggingObjective", "choose_labels", "make_tagging", "make_texts"]

_TASK = TokenClassification()
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_EVALUATION_TOKENS = 8192
_IGNORED = -100  # as cross_entropy has it


@dataclass(frozen=True, slots=True, eq=False)
class TaggedText:
    """A text to train on.

    Attributes:
        prepared: Its words and windows.
        label_W: Shape (W,), int64, the words' labels.
    """

    prepared: PreparedWords
    label_W: NDArray[np.int64]

    def windows(self) -> list[tuple[Feature, NDArray[np.int64]]]:
        """Return the windows that show a word best, with the labels of their tokens, int64."""
        label_T = np.full(self.prepared.num_tokens, _IGNORED, np.int64)
        label_T[self.prepared.words.first_W] = self.label_W
        result = []
        for window in self.prepared.windows:
            begin, count = window.context_offset, window.context_length
            labels = np.full(window.num_tokens, _IGNORED, np.int64)
            shown = label_T[window.context_start : window.context_start + count]
            labels[begin : begin + count] = np.where(window.is_max_context, shown, _IGNORED)
            if (labels != _IGNORED).any():
                result.append((window, labels))
        return result


def make_texts(
    examples: Sequence[LabelledWords],
    names: Sequence[str],
    tokenizer: Tokenizer,
    limits: WindowLimits,
) -> list[TaggedText]:
    """Tokenize labelled words, all together.

    Args:
        examples: The lines of a file.
        names: The labels in the order of the logits.
        tokenizer: The model's.
        limits: How texts are cut into windows.

    Returns:
        One text a line.

    Raises:
        InputError: A label is none of the names, or a word has no token; the message names file
            and line.
    """
    # Labels first: they take no time.
    labels = tag_indices(examples, names)
    items = [_TASK.check_input(example.words, example.place) for example in examples]
    texts = []
    encodings = tokenizer.encode_batch([item.text for item in items])
    for example, item, encoding, row in zip(examples, items, encodings, labels, strict=True):
        try:
            prepared = prepare_words(item, encoding, tokenizer, limits)
        except InputError as error:
            raise type(error)(f"{example.place}: {error}") from None
        texts.append(TaggedText(prepared, np.array(row, np.int64)))
    return texts


class TaggingObjective:
    """The objective of token classification; see train.loop.objective.Objective."""

    name = HEAD.name

    def __init__(
        self,
        loaded: LoadedModel,
        training: Sequence[TaggedText],
        held_out: Sequence[TaggedText],
        labels: Sequence[str],
        tokenizer_files: Mapping[str, bytes],
        *,
        batch_size: int,
        seed: int,
    ) -> None:
        """Hold the data.

        Args:
            loaded: The model and what its checkpoint says.
            training: Texts to train on.
            held_out: Texts to evaluate on; empty for no evaluation.
            labels: Names of the labels, in the order of the logits.
            tokenizer_files: What is written beside the weights.
            batch_size: Windows of a micro-batch.
            seed: Decides their order.
        """
        self._labels = tuple(labels)
        self.best_metric = "entity_f1" if has_prefixes(labels) else "word_accuracy"
        self._loaded = loaded
        self._windows = [window for text in training for window in text.windows()]
        self._held_out = held_out
        self.padding = Padding(loaded.config.max_sequence_length)
        self._tokenizer_files = tokenizer_files
        lengths = [window.num_tokens for window, _ in self._windows]
        self._batches = EpochBatches(lengths, batch_size, seed)
        self.num_micro_batches = self._batches.num_batches
        shares = np.bincount(np.concatenate([text.label_W for text in training]))
        shares = shares[shares > 0] / shares.sum()
        self.trivial_loss: float | None = float(-(shares * np.log(shares)).sum())

    def micro_batch(self, index: int) -> MicroBatch:
        """Make the index-th micro-batch, padded to its longest window."""
        chosen = [self._windows[i] for i in self._batches[index]]
        windows = [window for window, _ in chosen]
        tensors = self._inputs(windows)
        labels_BS = self.padding.rectangle([labels for _, labels in chosen], _IGNORED)
        tensors["labels"] = torch.from_numpy(labels_BS)
        num_tokens = sum(window.num_tokens for window in windows)
        return MicroBatch(tensors, num_tokens, tensors["input_ids"].numel())

    def loss(
        self, model: nn.Module, tensors: Mapping[str, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Compute the mean cross-entropy of the words, and "train_accuracy" in percent."""
        logits_BSC = model(*(tensors[name] for name in _INPUTS)).float()
        labels_BS = tensors["labels"]
        loss = F.cross_entropy(logits_BSC.flatten(0, 1), labels_BS.flatten(), ignore_index=_IGNORED)
        is_word_BS = labels_BS != _IGNORED
        hits_BS = (logits_BSC.detach().argmax(-1) == labels_BS) & is_word_BS
        return loss, {"train_accuracy": 100 * hits_BS.sum() / is_word_BS.sum()}

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """Label the held-out texts: their figures as runtime.evaluate has them, in percent."""
        if not self._held_out:
            return {}
        device = next(model.parameters()).device
        windows = [window for text in self._held_out for window in text.prepared.windows]
        outputs: list[Any] = [None] * len(windows)
        lengths = [window.num_tokens for window in windows]
        for batch in plan_batches(lengths, max_tokens=_EVALUATION_TOKENS, is_packed=False):
            tensors = self._inputs([windows[i] for i in batch])
            logits_BSC = model(*(tensors[name].to(device) for name in _INPUTS)).float().cpu()
            for i, logits_SC in zip(batch, logits_BSC, strict=True):
                outputs[i] = {"logits": logits_SC[: lengths[i]].numpy()}
        given, remaining = [], iter(outputs)
        for text in self._held_out:
            own = [next(remaining) for _ in text.prepared.windows]
            given.append(word_logits(text.prepared, own).argmax(axis=1))
        return self._figures(given)

    def _figures(self, given: Sequence[NDArray[np.int64]]) -> Mapping[str, float]:
        gold = [text.label_W for text in self._held_out]
        given_N, gold_N = np.concatenate(given), np.concatenate(gold)
        accuracy = float(100 * (given_N == gold_N).mean())
        if not has_prefixes(self._labels):
            return {"word_accuracy": accuracy, "macro_f1": macro_f1(given_N, gold_N)}
        counts = [
            chunk_counts(mine.tolist(), right.tolist(), self._labels)
            for mine, right in zip(given, gold, strict=True)
        ]
        return {
            "entity_f1": float(f1_of_counts(np.array(counts).sum(axis=0))),
            "word_accuracy": accuracy,
        }

    def save(self, model: nn.Module, directory: Path) -> None:
        """Write a checkpoint that compile.export reads, with the labels' names."""
        raw = {key: value for key, value in self._loaded.raw_config.items() if key != "label2id"}
        names = {str(index): name for index, name in enumerate(self._labels)}
        save_checkpoint(
            directory,
            model,  # type: ignore[arg-type]
            self._loaded.config,
            tokenizer_files=self._tokenizer_files,
            extra={**raw, "id2label": names},
        )

    def _inputs(self, windows: Sequence[Feature]) -> dict[str, Tensor]:
        """Pad windows: three tensors of shape (B, S), int64."""
        arrays = self.padding.inputs(windows, self._loaded.config.pad_token_id)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def choose_labels(
    examples: Sequence[LabelledWords],
    raw_config: Mapping[str, Any],
    given: Sequence[str] | None = None,
) -> tuple[str, ...]:
    """Choose the labels of a model that is to be trained.

    Args:
        examples: The data.
        raw_config: All of config.json of the checkpoint that training starts from.
        given: The user's own names, if any.

    Returns:
        The names in the order of the logits: the user's; else those of a checkpoint that labels
        words already, where they cover the data's; else the data's.

    Raises:
        ConfigError: The user gave less than two names, or one twice.
        InputError: The data have less than two labels.
    """
    if given is not None:
        if len(given) < 2 or len(set(given)) < len(given):
            raise ConfigError(f"label_names: got {list(given)}, want two or more different names")
        return tuple(given)
    architectures = raw_config.get("architectures")
    first = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    if first.endswith(HEAD.class_suffixes):
        names = label_names(raw_config)
        tags = {tag for example in examples for tag in example.tags}
        if all(class_index(tag, names) is not None for tag in tags):
            return names
    return tag_names(examples)


def make_tagging(setup: Setup) -> tuple[nn.Module, TaggingObjective]:
    """Load a model and its data.

    Args:
        setup: What the run is made of.

    Returns:
        The model and its objective.

    Raises:
        InputError: A file is damaged, or a label is none of the model's.
        CheckpointError: The checkpoint cannot be read, or its head has other labels.
        ConfigError: The windows are longer than the model takes, or labels are no names.
    """
    config, raw_config = read_config(setup.model_dir)
    length, longest = setup.limits.max_seq_length, config.max_sequence_length
    if length > longest:
        raise ConfigError(f"max_seq_length: got {length}, want 8 to the model's {longest}")

    def read(files: Sequence[Path]) -> list[LabelledWords]:
        return [
            row
            for file in files
            for row in read_labelled(file, setup.layout, dropped=setup.dropped)
        ]

    training = read(setup.train_files)
    held_out = read([setup.validation_file] if setup.validation_file else [])
    # A label that only the held-out words have is one that the model may not find, but no fault.
    names = choose_labels([*training, *held_out], raw_config, setup.options.label_names)
    tokenizer = Tokenizer.from_directory(setup.model_dir)
    torch.manual_seed(setup.seed)
    loaded = load_model(
        setup.weights_dir or setup.model_dir,
        HEAD.name,
        allow_new_head=setup.weights_dir is None,
        num_labels=len(names),
    )
    objective = TaggingObjective(
        loaded,
        make_texts(training, names, tokenizer, setup.limits),
        make_texts(held_out, names, tokenizer, setup.limits),
        names,
        read_tokenizer_files(setup.model_dir),
        batch_size=setup.batch_size,
        seed=setup.seed,
    )
    return cast("nn.Module", loaded.model), objective
