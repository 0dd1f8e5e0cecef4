"""The masked language model's targets, chosen anew whenever a sequence is met.

Source: Devlin et al. 2018, arXiv:1810.04805, section 3.1 (task 1), and
create_masked_lm_predictions in create_pretraining_data.py of github.com/google-research/bert,
whole-word masking included.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "MASKED_SHARE",
    "MaskedBatch",
    "Masking",
    "make_masking",
    "mask_batch",
    "max_predictions",
]

MASKED_SHARE = 0.15
# Of the chosen tokens 80 % become [MASK], 10 % another token, and 10 % stay.
_MASK_BELOW, _REPLACE_BELOW = 0.8, 0.9
_SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# Keeps these random numbers apart from others that are drawn for the same seed and index.
_STREAM = 2
# A key behind every random one.
_LAST = 2.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Masking:
    """What masking needs to know of the vocabulary.

    Attributes:
        mask_id: Id of [MASK].
        pad_id: Id of [PAD].
        is_candidate: For every id, whether it may be chosen, shape (V,): all but the special
            ones; [UNK] stands for a word, and may.
        is_continuation: For every id, whether it continues a word ("##"), shape (V,), bool.
        replacements: Ids that a chosen token may be replaced by, without the special ones, which
            the paper's code does not leave out.
        whole_words: Whether the pieces of a word are chosen together.
    """

    mask_id: int
    pad_id: int
    is_candidate: NDArray[np.bool_]
    is_continuation: NDArray[np.bool_]
    replacements: NDArray[np.int64]
    whole_words: bool


@dataclass(frozen=True, slots=True, eq=False)
class MaskedBatch:
    """Sequences with some tokens hidden, and what they were.

    Attributes:
        input_ids: Shape (B, S), int64.
        positions: The chosen positions in the flattened batch, ascending, shape (M,), int64.
        labels: The tokens that were there, shape (M,), int64.
    """

    input_ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    labels: NDArray[np.int64]


def make_masking(vocab: Mapping[str, int], *, whole_words: bool = False) -> Masking:
    """Read from a vocabulary what masking needs to know.

    Args:
        vocab: Ids by token, those of BERT's special tokens among them.
        whole_words: Whether the pieces of a word are chosen together.

    Returns:
        The masking.
    """
    # An id that no token has cannot be in a text, nor should the model see it.
    is_replacement = np.zeros(1 + max(vocab.values()), np.bool_)
    is_continuation = np.zeros_like(is_replacement)
    for token, token_id in vocab.items():
        is_replacement[token_id] = token not in _SPECIAL_TOKENS
        is_continuation[token_id] = token.startswith("##") and len(token) > 2
    is_candidate = is_replacement.copy()
    is_candidate[vocab["[UNK]"]] = True
    return Masking(
        mask_id=vocab["[MASK]"],
        pad_id=vocab["[PAD]"],
        is_candidate=is_candidate,
        is_continuation=is_continuation,
        replacements=np.flatnonzero(is_replacement),
        whole_words=whole_words,
    )


def max_predictions(max_seq_length: int, masked_share: float = MASKED_SHARE) -> int:
    """Return how many tokens of a sequence are chosen at most: 20 of 128, 77 of 512."""
    return math.ceil(masked_share * max_seq_length)


def mask_batch(
    input_ids: NDArray[np.int64],
    masking: Masking,
    *,
    max_predictions: int,
    seed: int,
    index: int,
    masked_share: float = MASKED_SHARE,
) -> MaskedBatch:
    """Hide tokens of a batch: a pure function of its arguments.

    Of every sequence 15 % of the tokens are chosen (special tokens count, and are never chosen):
    one at least, max_predictions at most.

    Args:
        input_ids: Padded sequences with at least one candidate each, shape (B, S).
        masking: The vocabulary, and whether whole words are chosen.
        max_predictions: Most tokens to choose of a sequence.
        seed: The run's seed.
        index: The batch's number; each has choices of its own.
        masked_share: Another share than 15 %.

    Returns:
        The batch with its targets.
    """
    rng = np.random.default_rng((seed, index, _STREAM))
    is_candidate = masking.is_candidate[input_ids]
    lengths = np.count_nonzero(input_ids != masking.pad_id, axis=1)
    # Halves are rounded to even, as by Python's round().
    quota = np.clip(np.rint(lengths * masked_share).astype(np.int64), 1, max_predictions)
    keys = rng.random(input_ids.shape)
    if masking.whole_words:
        is_chosen = _choose_words(keys, is_candidate, masking.is_continuation[input_ids], quota)
    else:
        is_chosen = _choose_tokens(keys, is_candidate, quota)
    positions = np.flatnonzero(is_chosen)
    labels = input_ids.ravel()[positions]
    draw = rng.random(len(positions))
    replacements = rng.choice(masking.replacements, len(positions))
    hidden = input_ids.copy()
    hidden.ravel()[positions] = np.where(
        draw < _MASK_BELOW,
        masking.mask_id,
        np.where(draw < _REPLACE_BELOW, replacements, labels),
    )
    return MaskedBatch(hidden, positions, labels)


def _choose_tokens(
    keys: NDArray[np.float64], is_candidate: NDArray[np.bool_], quota: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Choose the candidates of the smallest keys, `quota` of each row."""
    order = np.argsort(np.where(is_candidate, keys, _LAST), axis=1)
    is_chosen = np.zeros_like(is_candidate)
    np.put_along_axis(is_chosen, order, np.arange(keys.shape[1]) < quota[:, None], axis=1)
    chosen: NDArray[np.bool_] = is_chosen & is_candidate
    return chosen


def _choose_words(
    keys: NDArray[np.float64],
    is_candidate: NDArray[np.bool_],
    is_continuation: NDArray[np.bool_],
    quota: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Choose whole words in the order of their keys, passing over those that exceed the quota.

    Args:
        keys: Random numbers, shape (B, S); a word's key is that at the word's number.
        is_candidate: Which tokens belong to words, shape (B, S).
        is_continuation: Which tokens continue a word, shape (B, S).
        quota: Most tokens to choose of each row, shape (B,).

    Returns:
        Which tokens are chosen, shape (B, S).
    """
    num_rows, width = keys.shape
    follows = np.zeros_like(is_candidate)
    # A piece behind a special token opens a word: truncation has cut the word's head off.
    follows[:, 1:] = is_candidate[:, 1:] & is_continuation[:, 1:] & is_candidate[:, :-1]
    words = np.cumsum(is_candidate & ~follows, axis=1) - 1
    num_words = words.max(axis=1) + 1
    flat = (words + width * np.arange(num_rows)[:, None])[is_candidate]
    sizes = np.bincount(flat, minlength=num_rows * width).reshape(num_rows, width)
    order = np.argsort(np.where(np.arange(width) < num_words[:, None], keys, _LAST), axis=1)
    totals = np.zeros(num_rows, np.int64)
    is_word_chosen = np.zeros_like(is_candidate)
    rows = np.arange(num_rows)
    for word in order[:, : num_words.max()].T:
        fits = totals + sizes[rows, word] <= quota
        is_word_chosen[rows, word] = fits
        totals += np.where(fits, sizes[rows, word], 0)
        if np.array_equal(totals, quota):
            break
    is_chosen: NDArray[np.bool_] = np.take_along_axis(is_word_chosen, words, 1) & is_candidate
    for row in np.flatnonzero(totals == 0).tolist():
        # Every word is longer than the quota: a part of one, since there must be a target.
        pieces = np.flatnonzero((words[row] == order[row, 0]) & is_candidate[row])
        is_chosen[row, pieces[: quota[row]]] = True
    return is_chosen
