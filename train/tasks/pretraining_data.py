"""From a tokenized corpus to the micro-batches of pretraining."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bert_rt.errors import InputError
from train.data.batching import length_bucketed_batches
from train.data.corpus import Corpus
from train.data.masking import MASKED_SHARE, Masking, make_masking, mask_batch, max_predictions
from train.data.pairs import Pairs, assemble, make_pairs
from train.data.phases import Phase
from train.loop.objective import MicroBatch

__all__ = ["PhaseBatches", "PretrainingData", "divide", "unigram_entropy"]

# Keeps these random numbers apart from others that are drawn for the same seed and epoch.
_STREAM = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PretrainingData:
    """The text that a run learns from and is scored on.

    Attributes:
        corpus: All documents.
        training: Numbers of the documents to train on, at least two.
        held_out: Numbers of the documents to score on; may be too few to do so.
        masking: How tokens are hidden.
        cls_id: Id of [CLS].
        sep_id: Id of [SEP].
    """

    corpus: Corpus
    training: NDArray[np.int64]
    held_out: NDArray[np.int64]
    masking: Masking
    cls_id: int
    sep_id: int

    def micro_batch(
        self,
        pairs: Pairs,
        rows: NDArray[np.int64],
        *,
        max_seq_length: int,
        seed: int,
        index: int,
        masked_share: float = MASKED_SHARE,
    ) -> MicroBatch:
        """Gather and mask instances.

        Args:
            pairs: The instances of an epoch.
            rows: Which of them.
            max_seq_length: The phase's, which limits how many tokens are masked.
            seed: The run's seed.
            index: The micro-batch's number, which the masks depend on.
            masked_share: Share of the tokens that are masked.

        Returns:
            The inputs of BertForPreTraining.forward by name, and masked_labels of shape (M,) and
            next_sentence_labels of shape (B,), all int64.
        """
        batch = assemble(
            self.corpus,
            pairs,
            rows,
            cls_id=self.cls_id,
            sep_id=self.sep_id,
            pad_id=self.masking.pad_id,
        )
        masked = mask_batch(
            batch.input_ids,
            self.masking,
            max_predictions=max_predictions(max_seq_length, masked_share),
            seed=seed,
            index=index,
            masked_share=masked_share,
        )
        arrays = {
            "input_ids": masked.input_ids,
            "attention_mask": batch.attention_mask,
            "token_type_ids": batch.token_type_ids,
            "masked_positions": masked.positions,
            "masked_labels": masked.labels,
            # Class 0 is "B follows A".
            "next_sentence_labels": batch.is_random.astype(np.int64),
        }
        return MicroBatch(
            tensors={name: torch.from_numpy(array) for name, array in arrays.items()},
            num_tokens=int(batch.attention_mask.sum()),
            num_positions=batch.input_ids.size,
        )


def divide(
    corpus: Corpus, vocab: Mapping[str, int], held_out_fraction: float, *, whole_words: bool
) -> PretrainingData:
    """Divide a corpus into text to learn from and text to be scored on.

    Args:
        corpus: The tokenized text.
        vocab: Ids by token.
        held_out_fraction: As in Corpus.split.
        whole_words: Whether the pieces of a word are masked together.

    Returns:
        The data.

    Raises:
        InputError: There are fewer than two documents to train on.
    """
    training, held_out = corpus.split(held_out_fraction)
    if len(training) < 2:
        raise InputError(
            f"corpus: got {len(training)} documents to train on, want at least 2 for "
            "next-sentence prediction (a blank line ends a document)"
        )
    return PretrainingData(
        corpus=corpus,
        training=training,
        held_out=held_out,
        masking=make_masking(vocab, whole_words=whole_words),
        cls_id=vocab["[CLS]"],
        sep_id=vocab["[SEP]"],
    )


class PhaseBatches:
    """The instances of a phase by its micro-batches, over all epochs. Makes one epoch at a time.

    Attributes:
        phase: The phase.
        num_batches: Micro-batches of an epoch.
    """

    def __init__(self, data: PretrainingData, phase: Phase, seed: int) -> None:
        """Take over a phase of a run with the given seed, and cut its first epoch."""
        self.phase = phase
        self._data = data
        self._seed = seed
        self._epoch = 0
        self._pairs = self._cut(0)
        # Every epoch has as many instances as the first, so that a micro-batch's epoch is known
        # without making those before it. How many a cut gives varies by a percent or so.
        self._num_instances = len(self._pairs)
        self._batches = self._deal()
        self.num_batches = len(self._batches)

    def __getitem__(self, index: int) -> tuple[Pairs, NDArray[np.int64]]:
        """Return instances, and which of them the index-th micro-batch of the phase has."""
        epoch, position = divmod(index, self.num_batches)
        if epoch != self._epoch:
            self._epoch = epoch
            self._pairs = self._cut(epoch)
            self._batches = self._deal()
        return self._pairs, self._batches[position]

    def _cut(self, epoch: int) -> Pairs:
        return make_pairs(
            self._data.corpus,
            self._data.training,
            max_seq_length=self.phase.max_seq_length,
            seed=self._seed,
            epoch=epoch,
        )

    def _deal(self) -> list[NDArray[np.int64]]:
        rng = np.random.default_rng((self._seed, self._epoch, _STREAM))
        # Leaves some out, or takes some twice: any, not the last document's.
        rows = np.resize(rng.permutation(len(self._pairs)), self._num_instances)
        batches = length_bucketed_batches(
            self._pairs.lengths[rows], self.phase.batch_size, seed=self._seed, epoch=self._epoch
        )
        return [rows[batch] for batch in batches]


def unigram_entropy(corpus: Corpus, *, without: NDArray[np.int64]) -> float:
    """Return the entropy of the tokens' frequencies, in nats.

    It is the loss of a model that knows how frequent every token is and nothing else.

    Args:
        corpus: The tokenized text.
        without: Numbers of documents that are left out.

    Returns:
        The entropy.
    """
    counts = np.zeros(int(corpus.tokens.max()) + 1, np.int64)
    # In blocks: bincount makes a copy of 8 bytes a token.
    for start in range(0, len(corpus.tokens), 1 << 22):
        counts += np.bincount(corpus.tokens[start : start + (1 << 22)], minlength=len(counts))
    bounds = corpus.sentence_starts[corpus.document_starts]
    for document in without.tolist():
        ids = corpus.tokens[bounds[document] : bounds[document + 1]]
        counts -= np.bincount(ids, minlength=len(counts))
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
