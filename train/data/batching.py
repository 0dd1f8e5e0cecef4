"""Which examples go into a batch together: those of like length, so that little is padded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bert_rt.types import TokenSequence

__all__ = ["EpochBatches", "Padding", "TokenBatches", "length_bucketed_batches"]

# Batches that are sorted by length together. More save padding, fewer leave the order more random;
# with 50 batches of 32 from SQuAD 2 % of the positions are padding, sorted as a whole 0.1 %, and
# unsorted 45 %.
_POOL_BATCHES = 50


def length_bucketed_batches(
    lengths: Sequence[int] | NDArray[np.integer],
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    groups: Sequence[int] | NDArray[np.integer] | None = None,
) -> list[NDArray[np.int64]]:
    """Deal the examples of one epoch out to batches.

    The examples are shuffled, cut into pools, sorted by length within a pool, cut into batches,
    and the batches are shuffled.

    Args:
        lengths: Tokens of every example, at least one example.
        batch_size: Examples of a batch; the last batches of an epoch may be smaller by one.
        seed: The run's seed.
        epoch: Which epoch, from 0; each has an order of its own.
        groups: A number for every example, from 0: those of one number, which are of one length,
            stand in one batch, or in neighbouring ones where its end comes between; None for no
            such order.

    Returns:
        Indices into lengths, every one once. The same arguments always give the same batches.
    """
    lengths = np.asarray(lengths)
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(lengths))
    if groups is not None:
        groups = np.asarray(groups)
        place = rng.permutation(groups.max() + 1)
        order = order[np.argsort(place[groups[order]], kind="stable")]
    # As equal as they can be: a batch of the three examples that were left over would move the
    # weights as far as a whole one.
    num_batches = -(-len(order) // batch_size)
    batches: list[NDArray[np.int64]] = []
    for pool in np.array_split(order, max(1, round(num_batches / _POOL_BATCHES))):
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches.extend(np.array_split(pool, -(-len(pool) // batch_size)))
    return [batches[index] for index in rng.permutation(len(batches))]


class EpochBatches:
    """The batches of a run by their index, over all epochs. Makes one epoch's at a time.

    Attributes:
        num_batches: Batches of an epoch.
    """

    def __init__(
        self,
        lengths: Sequence[int] | NDArray[np.integer],
        batch_size: int,
        seed: int,
        groups: Sequence[int] | NDArray[np.integer] | None = None,
    ) -> None:
        """Take the lengths of all examples; the arguments are those of length_bucketed_batches."""
        self._lengths = np.asarray(lengths)
        self._groups = groups
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = -1
        self._batches: list[NDArray[np.int64]] = []
        self._turn_to(0)
        self.num_batches = len(self._batches)

    def __getitem__(self, index: int) -> NDArray[np.int64]:
        """Return the examples of the index-th batch of the run."""
        epoch, position = divmod(index, self.num_batches)
        self._turn_to(epoch)
        return self._batches[position]

    def _turn_to(self, epoch: int) -> None:
        if epoch != self._epoch:
            self._batches = length_bucketed_batches(
                self._lengths,
                self._batch_size,
                seed=self._seed,
                epoch=epoch,
                groups=self._groups,
            )
            self._epoch = epoch


class TokenBatches:
    """Batches of pairs by their index, over all epochs, each of about as many tokens.

    Pairs of like lengths on both sides stand together, so that next to nothing is padded, and long
    ones are fewer. Which of several pairs of the same lengths meet, and the order of the batches,
    is another one in every epoch; the sizes of the batches, and their number, stay.

    Attributes:
        num_batches: Batches of an epoch.
    """

    def __init__(
        self,
        lengths_N2: Sequence[tuple[int, int]] | NDArray[np.integer],
        *,
        max_tokens: int,
        max_examples: int,
        seed: int,
    ) -> None:
        """Take the lengths of all pairs.

        Args:
            lengths_N2: Tokens of both sides of every pair, at least one pair.
            max_tokens: Tokens of a batch, both sides together; a longer pair is a batch alone.
            max_examples: Most pairs of a batch.
            seed: The run's seed.
        """
        self._lengths_N2 = np.asarray(lengths_N2)
        self._seed = seed
        self._epoch = -1
        self._batches: list[NDArray[np.int64]] = []
        source_N, target_N = self._lengths_N2.T
        totals = (source_N + target_N)[np.lexsort((target_N, source_N))]
        # Only lengths decide where a batch ends, and their order is the same in every epoch.
        self._ends: list[int] = []
        begin = tokens = 0
        for index, count in enumerate(totals.tolist()):
            if index > begin and (tokens + count > max_tokens or index - begin == max_examples):
                self._ends.append(index)
                begin, tokens = index, 0
            tokens += count
        self.num_batches = 1 + len(self._ends)

    def __getitem__(self, index: int) -> NDArray[np.int64]:
        """Return the pairs of the index-th batch of the run."""
        epoch, position = divmod(index, self.num_batches)
        if epoch != self._epoch:
            rng = np.random.default_rng((self._seed, epoch))
            order = rng.permutation(len(self._lengths_N2))
            source_N, target_N = self._lengths_N2[order].T
            order = order[np.lexsort((target_N, source_N))]
            batches = np.split(order, self._ends)
            self._batches = [batches[number] for number in rng.permutation(self.num_batches)]
            self._epoch = epoch
        return self._batches[position]


@dataclass(slots=True)
class Padding:
    """How sequences are laid out as a rectangle.

    Attributes:
        limit: The greatest width, that of the model; sequences are no longer.
        multiple: The rectangle's width is a multiple of this, unless that is beyond the limit.
    """

    limit: int
    multiple: int = 1

    def rectangle(self, rows: Sequence[NDArray[np.integer]], fill: int) -> NDArray[np.int64]:
        """Lay sequences out.

        Args:
            rows: B sequences, each of shape (length,), any integers.
            fill: What stands behind the shorter ones.

        Returns:
            Shape (B, S), int64, S the longest length, rounded up.
        """
        longest = max(map(len, rows))
        width = min(-(-longest // self.multiple) * self.multiple, self.limit)
        padded = np.full((len(rows), width), fill, np.int64)
        for target, row in zip(padded, rows, strict=True):
            target[: len(row)] = row
        return padded

    def inputs(
        self, sequences: Sequence[TokenSequence], pad_id: int
    ) -> dict[str, NDArray[np.int64]]:
        """Lay the inputs of a model out.

        Args:
            sequences: B sequences.
            pad_id: The token that fills rows up.

        Returns:
            "input_ids", "attention_mask" and "token_type_ids", in the order of the model's
            arguments, each of shape (B, S), int64.
        """
        ids = [sequence.input_ids for sequence in sequences]
        return {
            "input_ids": self.rectangle(ids, pad_id),
            "attention_mask": self.rectangle([np.ones_like(row) for row in ids], 0),
            "token_type_ids": self.rectangle([s.token_type_ids for s in sequences], 0),
        }
