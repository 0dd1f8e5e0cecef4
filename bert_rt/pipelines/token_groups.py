"""Scores of tokens -> labelled tokens or groups of them, by the rules of Transformers 4.x.

They are other rules than those of tasks.token_classification, kept so that results do not change
for those who come from there: a group is of tokens or of what counts as a word there, its words
are what the vocabulary calls them, and of windows that overlap the longer group stays.

Shapes: T tokens of a window, C labels.

Source: the behaviour of TokenClassificationPipeline of Transformers 4.57.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_rt.text.token_texts import TokenTexts
from bert_rt.types import FloatArray, IntArray

__all__ = ["STRATEGIES", "WORD_STRATEGIES", "TokenScores", "group_tokens", "merge_windows"]

WORD_STRATEGIES = ("first", "average", "max")
STRATEGIES = ("none", "simple", *WORD_STRATEGIES)


@dataclass(frozen=True, slots=True, eq=False)
class TokenScores:
    """The tokens of a window, without special ones, and their scores.

    Attributes:
        names: What the vocabulary calls them; T of them.
        scores_TC: Shape (T, C), float32, probabilities.
        offsets_T2: Shape (T, 2), int32, their character spans.
        is_subword_T: Shape (T,), bool: whether a token continues a word.
    """

    names: list[str]
    scores_TC: FloatArray
    offsets_T2: IntArray
    is_subword_T: NDArray[np.bool_]

    @classmethod
    def of_window(
        cls,
        text: str,
        token_ids: Sequence[int],
        offsets_T2: IntArray,
        logits_TC: FloatArray,
        texts: TokenTexts,
    ) -> TokenScores:
        """Name the tokens of a window and make probabilities of their logits.

        Args:
            text: The whole text.
            token_ids: The window's tokens, T of them.
            offsets_T2: Shape (T, 2), int32, their spans in the text.
            logits_TC: Shape (T, C), float32.
            texts: What the tokens are called.

        Returns:
            The tokens.
        """
        names = texts.names(token_ids)
        is_subword = np.zeros(len(names), np.bool_)
        for index, (token_id, (start, end)) in enumerate(
            zip(token_ids, offsets_T2.tolist(), strict=True)
        ):
            if token_id == texts.unknown_id:
                names[index] = text[start:end]
            elif texts.has_prefix:
                is_subword[index] = len(names[index]) != end - start
            else:
                is_subword[index] = start > 0 and " " not in text[start - 1 : start + 1]
        weights_TC = np.exp(logits_TC - logits_TC.max(axis=-1, keepdims=True))
        scores_TC: FloatArray = weights_TC / weights_TC.sum(axis=-1, keepdims=True)
        return cls(names, scores_TC, offsets_T2, is_subword)


@dataclass(frozen=True, slots=True)
class _Item:
    """A token, or the tokens of a word, with one label."""

    label: str
    score: np.float32
    word: str
    start: int
    end: int


def group_tokens(
    tokens: TokenScores,
    labels: Sequence[str],
    strategy: str,
    ignored: Sequence[str],
    texts: TokenTexts,
) -> list[dict[str, Any]]:
    """Label the tokens of a window, or group them.

    Args:
        tokens: The window's tokens.
        labels: Names of the C labels.
        strategy: One of STRATEGIES.
        ignored: Labels, or kinds of groups, that are left out.
        texts: Joins tokens to words.

    Returns:
        With "none" dictionaries of entity, score, index (of the token in the window), word, start
        and end; else of entity_group, score, word, start and end.
    """
    if strategy in WORD_STRATEGIES:
        items = [
            _word(tokens, first, end, labels, strategy, texts)
            for first, end in pairwise(_bounds(tokens.is_subword_T))
        ]
    else:
        best_T = tokens.scores_TC.argmax(axis=-1)
        spans = tokens.offsets_T2.tolist()
        items = [
            _Item(labels[best], tokens.scores_TC[i, best], tokens.names[i], *spans[i])
            for i, best in enumerate(best_T.tolist())
        ]
    if strategy == "none":
        # The token in front of a window has the index 0.
        return [
            {
                "entity": item.label,
                "score": float(item.score),
                "index": index,
                "word": item.word,
                "start": item.start,
                "end": item.end,
            }
            for index, item in enumerate(items, start=1)
            if item.label not in ignored
        ]
    groups = [_group(group, texts.join) for group in _groups(items)]
    return [group for group in groups if group["entity_group"] not in ignored]


def merge_windows(entities: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of entities of several windows that overlap keep the longest; of equal ones the surest.

    Args:
        entities: What group_tokens gave for the windows, one behind the other.

    Returns:
        The entities in the order of the text.
    """
    merged: list[dict[str, Any]] = []
    for entity in sorted(entities, key=lambda item: item["start"]):
        last = merged[-1] if merged else None
        if last is None or not last["start"] <= entity["start"] < last["end"]:
            merged.append(entity)
        elif _rank(entity) > _rank(last):
            merged[-1] = entity
    return merged


def _rank(entity: dict[str, Any]) -> tuple[int, float]:
    return entity["end"] - entity["start"], entity["score"]


def _bounds(is_subword_T: NDArray[np.bool_]) -> list[int]:
    """Return where words begin, and the number of tokens; the first token begins one."""
    starts: list[int] = np.flatnonzero(~is_subword_T[1:]).tolist()
    return [0, *(start + 1 for start in starts), len(is_subword_T)]


def _word(
    tokens: TokenScores,
    first: int,
    end: int,
    labels: Sequence[str],
    strategy: str,
    texts: TokenTexts,
) -> _Item:
    scores_SC = tokens.scores_TC[first:end]
    if strategy == "average":
        scores_C = np.nanmean(scores_SC, axis=0)
    else:
        row = 0 if strategy == "first" else int(scores_SC.max(axis=-1).argmax())
        scores_C = scores_SC[row]
    best = int(scores_C.argmax())
    word = texts.join(tokens.names[first:end])
    start, stop = int(tokens.offsets_T2[first, 0]), int(tokens.offsets_T2[end - 1, 1])
    return _Item(labels[best], scores_C[best], word, start, stop)


def _place(label: str) -> tuple[str, str]:
    """Return B or I, and the kind; a label without either is read as if it had I."""
    return (label[0], label[2:]) if label.startswith(("B-", "I-")) else ("I", label)


def _groups(items: Sequence[_Item]) -> list[list[_Item]]:
    """Put items together that follow each other and are of one kind."""
    groups: list[list[_Item]] = []
    for item in items:
        place, kind = _place(item.label)
        if groups and place != "B" and kind == _place(groups[-1][-1].label)[1]:
            groups[-1].append(item)
        else:
            groups.append([item])
    return groups


def _group(items: Sequence[_Item], join: Callable[[Sequence[str]], str]) -> dict[str, Any]:
    return {
        "entity_group": items[0].label.split("-", 1)[-1],
        "score": float(np.nanmean([item.score for item in items])),
        "word": join([item.word for item in items]),
        "start": items[0].start,
        "end": items[-1].end,
    }
