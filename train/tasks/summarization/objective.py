"""Extractive summarization: documents -> windows with a label a sentence -> cross-entropy.

Shapes: B windows, S padded length, N sentences of a document, later of all windows, T their tokens.

Source: BertSum, Liu and Lapata 2019, arXiv:1903.10318.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
    read_config,
    read_tokenizer_files,
    save_checkpoint,
)
from bert_rt.tasks.base import CallOptions
from bert_rt.tasks.checkpoints import load_model
from bert_rt.tasks.limits import SummaryConfig
from bert_rt.tasks.summarization.documents import SummarizedText, read_documents
from bert_rt.tasks.summarization.head_spec import HEAD
from bert_rt.tasks.summarization.rouge import ROUGE, best_rouge
from bert_rt.tasks.summarization.summarizing import (
    PreparedDocument,
    Summarization,
    prepare_document,
)
from bert_rt.tasks.summarization.windows import SentenceWindow
from bert_rt.text.sentences import sentence_spans
from bert_rt.text.tokenization import Tokenizer
from train.data.batching import EpochBatches, Padding
from train.loop.objective import MicroBatch
from train.tasks.base import Setup
from train.tasks.summarization.labels import greedy_labels, soft_labels

__all__ = ["SummarizingObjective", "label_windows", "make_summarizing"]

_TASK = Summarization()
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_EVALUATION_TOKENS = 8192
_IGNORED = -1


@dataclass(frozen=True, slots=True, eq=False)
class _Document:
    """A document and its summaries."""

    prepared: PreparedDocument
    references: tuple[str, ...]


# The sentences of a document and its summaries -> how much each sentence is to be chosen, 0 to 1.
Labels = Callable[[Sequence[str], Sequence[str]], NDArray[np.float64]]


def label_windows(
    prepared: PreparedDocument, labels_N: NDArray[np.float64]
) -> list[tuple[SentenceWindow, NDArray[np.float32]]]:
    """Give the windows of a document their labels.

    Args:
        prepared: The document.
        labels_N: How much each of its sentences is to be chosen, from 0 to 1.

    Returns:
        Windows that show a sentence best, with the labels of their sentences, float32: -1 for those
        that another window shows better.
    """
    result = []
    for window in prepared.windows:
        own_N = labels_N[window.first : window.first + len(window.places)]
        labels = np.where(window.is_best, own_N, _IGNORED).astype(np.float32)
        if any(window.is_best):
            result.append((window, labels))
    return result


class SummarizingObjective:
    """The objective of extractive summarization; see train.loop.objective.Objective."""

    name = HEAD.name
    best_metric = "rouge1"

    def __init__(
        self,
        loaded: LoadedModel,
        training: Sequence[_Document],
        held_out: Sequence[_Document],
        limits: SummaryConfig,
        tokenizer_files: Mapping[str, bytes],
        *,
        make_labels: Labels,
        batch_size: int,
        seed: int,
    ) -> None:
        """Hold the data, and find the sentences that are to be chosen.

        Args:
            loaded: The model and what its checkpoint says.
            training: Documents to train on.
            held_out: Documents to evaluate on; empty for no evaluation.
            limits: max_sentences says how many sentences a summary has.
            tokenizer_files: What is written beside the weights.
            make_labels: What the model learns of a document's sentences.
            batch_size: Windows of a micro-batch.
            seed: Decides their order.
        """
        self._loaded = loaded
        self._held_out = held_out
        self._options = CallOptions(limits=limits)
        self._windows = [
            window
            for document in training
            for window in label_windows(
                document.prepared,
                make_labels(document.prepared.sentences, document.references),
            )
        ]
        self.padding = Padding(loaded.config.max_sequence_length)
        self._tokenizer_files = tokenizer_files
        lengths = [window.num_tokens for window, _ in self._windows]
        self._batches = EpochBatches(lengths, batch_size, seed)
        self.num_micro_batches = self._batches.num_batches
        labels_N = np.concatenate([labels[labels != _IGNORED] for _, labels in self._windows])
        # What guessing the mean costs beyond the labels' own entropy.
        trivial_loss = _entropy(labels_N.mean(dtype=np.float64)) - _entropy(labels_N).mean()
        self.trivial_loss = float(trivial_loss) if trivial_loss > 0 else None

    def micro_batch(self, index: int) -> MicroBatch:
        """Make the index-th micro-batch, padded to its longest window."""
        chosen = [self._windows[i] for i in self._batches[index]]
        windows = [window for window, _ in chosen]
        tensors = self._inputs(windows)
        sentence_BS = np.full(tensors["input_ids"].shape, _IGNORED, np.int64)
        labels_N: list[np.float32] = []
        for row_S, (window, labels) in zip(sentence_BS, chosen, strict=True):
            for (start, end), label in zip(window.token_spans, labels, strict=True):
                if label != _IGNORED:
                    row_S[start:end] = len(labels_N)
                    labels_N.append(label)
        tensors["sentence"] = torch.from_numpy(sentence_BS)
        tensors["labels"] = torch.from_numpy(np.array(labels_N, np.float32))
        num_tokens = sum(window.num_tokens for window in windows)
        return MicroBatch(tensors, num_tokens, tensors["input_ids"].numel())

    def loss(
        self, model: nn.Module, tensors: Mapping[str, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Compute the mean cross-entropy of the sentences, each chosen or not.

        Of soft labels their own entropy, which no model can take away, is subtracted.
        """
        logits_BS = model(*(tensors[name] for name in _INPUTS)).float()[..., 0]
        sentence_BS, labels_N = tensors["sentence"], tensors["labels"]
        is_own_BS = sentence_BS != _IGNORED
        sentence_T, logits_T = sentence_BS[is_own_BS], logits_BS[is_own_BS]
        sums_N = torch.zeros_like(labels_N).index_add(0, sentence_T, logits_T)
        logits_N = sums_N / torch.bincount(sentence_T, minlength=len(labels_N))
        loss = F.binary_cross_entropy_with_logits(logits_N, labels_N)
        return loss - F.binary_cross_entropy(labels_N, labels_N), {}

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """Sum up the held-out documents: ROUGE as runtime.evaluate has it, in percent."""
        if not self._held_out:
            return {}
        device = next(model.parameters()).device
        windows = [window for document in self._held_out for window in document.prepared.windows]
        outputs: list[Any] = [None] * len(windows)
        lengths = [window.num_tokens for window in windows]
        for batch in plan_batches(lengths, max_tokens=_EVALUATION_TOKENS, is_packed=False):
            tensors = self._inputs([windows[i] for i in batch])
            logits_BS1 = model(*(tensors[name].to(device) for name in _INPUTS)).float().cpu()
            for i, logits_S1 in zip(batch, logits_BS1, strict=True):
                outputs[i] = {"logits": logits_S1[: lengths[i]].numpy()}
        scores, remaining = [], iter(outputs)
        for document in self._held_out:
            own = [next(remaining) for _ in document.prepared.windows]
            summary = _TASK.decode(document.prepared, own, self._options)
            scores.append(best_rouge(summary.text, document.references))
        return dict(zip(ROUGE, np.mean(scores, axis=0).tolist(), strict=True))

    def save(self, model: nn.Module, directory: Path) -> None:
        """Write a checkpoint that compile.export reads."""
        save_checkpoint(
            directory,
            model,  # type: ignore[arg-type]
            self._loaded.config,
            tokenizer_files=self._tokenizer_files,
            extra={**self._loaded.raw_config},
        )

    def _inputs(self, windows: Sequence[SentenceWindow]) -> dict[str, Tensor]:
        """Pad windows: three tensors of shape (B, S), int64."""
        arrays = self.padding.inputs(windows, self._loaded.config.pad_token_id)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def make_summarizing(setup: Setup) -> tuple[nn.Module, SummarizingObjective]:
    """Load a model and its data.

    Args:
        setup: What the run is made of.

    Returns:
        The model and its objective.

    Raises:
        InputError: A file is damaged.
        CheckpointError: The checkpoint cannot be read.
        ConfigError: The windows are longer than the model takes.
    """
    config, _ = read_config(setup.model_dir)
    length, longest = setup.limits.max_seq_length, config.max_sequence_length
    if length > longest:
        raise ConfigError(f"max_seq_length: got {length}, want 8 to the model's {longest}")
    tokenizer = Tokenizer.from_directory(setup.model_dir)

    def prepare(row: SummarizedText) -> _Document:
        try:
            prepared = prepare_document(
                row.text,
                sentence_spans(row.text),
                tokenizer,
                setup.limits,
                num_token_types=config.num_token_types,
            )
        except InputError as error:
            raise type(error)(f"{row.place}: {error}") from None
        return _Document(prepared, row.references)

    def read(files: Sequence[Path]) -> list[_Document]:
        rows = [row for file in files for row in read_documents(file, dropped=setup.dropped)]
        return [prepare(row) for row in rows]

    training = read(setup.train_files)
    held_out = read([setup.validation_file] if setup.validation_file else [])
    torch.manual_seed(setup.seed)
    loaded = load_model(
        setup.weights_dir or setup.model_dir,
        HEAD.name,
        allow_new_head=setup.weights_dir is None,
    )
    objective = SummarizingObjective(
        loaded,
        training,
        held_out,
        setup.limits,
        read_tokenizer_files(setup.model_dir),
        make_labels=_labels_of(setup),
        batch_size=setup.batch_size,
        seed=setup.seed,
    )
    return cast("nn.Module", loaded.model), objective


def _labels_of(setup: Setup) -> Labels:
    count, options = setup.limits.max_sentences, setup.options
    if options.sentence_labels == "greedy":
        return partial(greedy_labels, max_sentences=count)
    return partial(soft_labels, max_sentences=count, temperature=options.rouge_temperature)


def _entropy(shares: Any) -> NDArray[np.float64]:
    """Return the entropy of draws that are 1 with a probability each, in nats."""
    p = np.clip(np.asarray(shares, np.float64), 1e-12, 1 - 1e-12)
    entropy: NDArray[np.float64] = -p * np.log(p) - (1 - p) * np.log(1 - p)
    return entropy
