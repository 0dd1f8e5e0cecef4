"""Next-sentence prediction: which two segments of the corpus each instance is made of.

The index of an epoch holds numbers only, some twenty bytes an instance; the tokens stay where
they are until a batch is assembled.

Source: create_instances_from_document and truncate_seq_pair in create_pretraining_data.py of
github.com/google-research/bert; Devlin et al. 2018, arXiv:1810.04805, section 3.1 and
appendix A.2.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.data.corpus import Corpus

__all__ = ["NUM_SPECIAL_TOKENS", "Assembled", "Pairs", "assemble", "make_pairs"]

# [CLS] segment A [SEP] segment B [SEP]
NUM_SPECIAL_TOKENS = 3
_UNIFORMS_AT_ONCE = 8192
# Keeps these random numbers apart from others that are drawn for the same seed and epoch.
_STREAM = 1


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """The instances of an epoch, N of them, in the order of the documents.

    Attributes:
        first_starts: Where segment A begins in Corpus.tokens, shape (N,), int64.
        first_lengths: Its tokens, at least 1, shape (N,), int32.
        second_starts: Where segment B begins, shape (N,), int64.
        second_lengths: Its tokens, at least 1, shape (N,), int32.
        is_random: Whether B comes from another document and does not follow A, shape (N,), bool.
    """

    first_starts: NDArray[np.int64]
    first_lengths: NDArray[np.int32]
    second_starts: NDArray[np.int64]
    second_lengths: NDArray[np.int32]
    is_random: NDArray[np.bool_]

    def __len__(self) -> int:
        """Return N."""
        return len(self.is_random)

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Tokens of each instance with its special tokens, shape (N,)."""
        total: NDArray[np.int32] = self.first_lengths + self.second_lengths + NUM_SPECIAL_TOKENS
        return total


def make_pairs(
    corpus: Corpus,
    documents: NDArray[np.int64],
    *,
    max_seq_length: int,
    seed: int,
    epoch: int,
    short_seq_prob: float = 0.1,
) -> Pairs:
    """Cut documents into the instances of an epoch: a pure function of its arguments.

    Args:
        corpus: The tokenized text.
        documents: Numbers of the documents to use, at least two.
        max_seq_length: Most tokens of an instance, special tokens included; at least 5.
        seed: The run's seed.
        epoch: Every epoch has instances of its own.
        short_seq_prob: The share of documents that are cut to a random shorter length, so that
            the model meets short sequences, too.

    Returns:
        The instances.

    Raises:
        ValueError: There are fewer than two documents, or max_seq_length leaves no room for two
            segments.
    """
    if len(documents) < 2 or max_seq_length < NUM_SPECIAL_TOKENS + 2:
        raise ValueError(f"got {len(documents)} documents, max_seq_length {max_seq_length}")
    rng = np.random.default_rng((seed, epoch, _STREAM))
    max_tokens = max_seq_length - NUM_SPECIAL_TOKENS
    uniforms = _uniforms(rng)
    # Forty bytes an instance, where a list of tuples takes two hundred.
    flat = array("q")
    for position, document in enumerate(documents.tolist()):
        others = _Others(corpus, documents, position)
        target = max_tokens
        if next(uniforms) < short_seq_prob:
            target = 2 + int(next(uniforms) * (max_tokens - 1))
        for row in _cut(_sentence_starts(corpus, document), target, others, uniforms):
            flat.extend(row)
    columns = np.frombuffer(flat, np.int64).reshape(-1, 5).T
    return _truncate(columns, max_tokens, rng)


def _uniforms(rng: np.random.Generator) -> Iterator[float]:
    """Yield numbers from [0, 1): drawn in blocks, which costs a tenth of one call each."""
    while True:
        yield from rng.random(_UNIFORMS_AT_ONCE).tolist()


def _sentence_starts(corpus: Corpus, document: int) -> list[int]:
    """Return where the document's sentences begin in the tokens, and where the last one ends."""
    first, last = corpus.document_starts[document : document + 2].tolist()
    starts: list[int] = corpus.sentence_starts[first : last + 1].tolist()
    return starts


@dataclass(frozen=True, slots=True, eq=False)
class _Others:
    """All documents but one, to draw random segments from."""

    corpus: Corpus
    documents: NDArray[np.int64]
    position: int

    def draw(self, num_tokens: int, uniforms: Iterator[float]) -> tuple[int, int]:
        """Return start and end of whole sentences, of num_tokens or to their document's end."""
        # Never the document itself; the paper's code gives up after ten attempts.
        index = int(next(uniforms) * (len(self.documents) - 1))
        document = int(self.documents[index + (index >= self.position)])
        bounds = self.corpus.document_starts
        first, last = int(bounds[document]), int(bounds[document + 1])
        first += int(next(uniforms) * (last - first))
        # A sentence has a token at least, so no more sentences than tokens are needed.
        starts = self.corpus.sentence_starts[first : min(last, first + max(num_tokens, 1)) + 1]
        begin = int(starts[0])
        end = int(np.searchsorted(starts, begin + num_tokens))
        return begin, int(starts[min(max(end, 1), len(starts) - 1)])


def _cut(
    starts: list[int], target: int, others: _Others, uniforms: Iterator[float]
) -> Iterator[tuple[int, int, int, int, bool]]:
    """Cut a document into instances that may still be too long.

    Args:
        starts: Where the document's sentences begin in the tokens, and the end of the last one.
        target: Tokens that A and B together shall have.
        others: The other documents.
        uniforms: Random numbers.

    Yields:
        Start and end of A, start and end of B, all in tokens, and whether B is random.
    """
    num_sentences = len(starts) - 1
    sentence = 0
    while sentence < num_sentences:
        # Whole sentences, until there are enough tokens or no more sentences.
        end = bisect_left(starts, starts[sentence] + target, sentence + 1)
        end = min(end, num_sentences)
        middle = sentence + 1
        if end - sentence >= 2:
            middle += int(next(uniforms) * (end - sentence - 1))
        if end - sentence == 1 or next(uniforms) < 0.5:
            length = starts[middle] - starts[sentence]
            yield starts[sentence], starts[middle], *others.draw(target - length, uniforms), True
            sentence = middle  # The sentences that B did not take are used again.
        else:
            yield starts[sentence], starts[middle], starts[middle], starts[end], False
            sentence = end


def _truncate(columns: NDArray[np.int64], max_tokens: int, rng: np.random.Generator) -> Pairs:
    """Shorten pairs that are too long, as if token after token went from the longer segment.

    Each token goes from the front or the back with equal chance, so the number that goes from
    the front is binomial.

    Args:
        columns: What _cut yields, shape (5, N).
        max_tokens: Most tokens of A and B together.
        rng: Draws the binomials.

    Returns:
        The instances.
    """
    first_starts, first_ends, second_starts, second_ends, is_random = columns
    first, second = first_ends - first_starts, second_ends - second_starts
    excess = np.maximum(first + second - max_tokens, 0)
    # The longer one alone, until both are equal; from then on in turns, B first.
    from_longer = np.minimum(excess, np.abs(first - second))
    in_turns = excess - from_longer
    cut_first = np.where(first > second, from_longer, 0) + in_turns // 2
    cut_second = np.where(first > second, 0, from_longer) + (in_turns + 1) // 2
    return Pairs(
        first_starts=first_starts + rng.binomial(cut_first, 0.5),
        first_lengths=(first - cut_first).astype(np.int32),
        second_starts=second_starts + rng.binomial(cut_second, 0.5),
        second_lengths=(second - cut_second).astype(np.int32),
        is_random=is_random.astype(np.bool_),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Assembled:
    """Instances as padded arrays.

    Attributes:
        input_ids: Shape (B, S), int64.
        attention_mask: Shape (B, S), int64; 0 at padding.
        token_type_ids: Shape (B, S), int64; 1 in segment B and the [SEP] behind it.
        is_random: Shape (B,), bool.
    """

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]
    is_random: NDArray[np.bool_]


def assemble(
    corpus: Corpus,
    pairs: Pairs,
    rows: NDArray[np.int64],
    *,
    cls_id: int,
    sep_id: int,
    pad_id: int,
    multiple: int = 8,
) -> Assembled:
    """Gather instances from the corpus.

    Args:
        corpus: The tokenized text.
        pairs: An epoch's instances.
        rows: Which of them, shape (B,).
        cls_id: Id of [CLS].
        sep_id: Id of [SEP].
        pad_id: Id of [PAD].
        multiple: S is that of the longest instance, rounded up to a multiple of this: matrix
            units compute in such tiles anyway.

    Returns:
        The arrays.
    """
    lengths = pairs.lengths[rows]
    width = -(-int(lengths.max()) // multiple) * multiple
    input_ids = np.full((len(rows), width), pad_id, np.int64)
    token_type_ids = np.zeros_like(input_ids)
    input_ids[:, 0] = cls_id
    for index, row in enumerate(rows.tolist()):
        line = input_ids[index]
        first, length = int(pairs.first_starts[row]), int(pairs.first_lengths[row])
        line[1 : length + 1] = corpus.tokens[first : first + length]
        line[length + 1] = sep_id
        begin, second = length + 2, int(pairs.second_starts[row])
        length = int(pairs.second_lengths[row])
        line[begin : begin + length] = corpus.tokens[second : second + length]
        line[begin + length] = sep_id
        token_type_ids[index, begin : begin + length + 1] = 1
    attention_mask = (np.arange(width) < lengths[:, None]).astype(np.int64)
    return Assembled(input_ids, attention_mask, token_type_ids, pairs.is_random[rows])
