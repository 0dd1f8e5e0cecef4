"""Labels such as B-PER, I-PER and O: which words make an entity together.

A label says the kind of the entity, and its prefix the place of the word within: B or I (begin,
inside), also E or L (end) and S or U (a single word). O is no entity. A label without a prefix is
read as if it had I. Labels that do not fit together are read as the CoNLL scripts read them: a word
inside of another kind of entity than the word before begins a new one.

Source: Tjong Kim Sang and De Meulder 2003, CoNLL-2003 shared task, and its script conlleval;
the default mode of seqeval gives the same entities.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["OUTSIDE", "Chunk", "find_chunks", "has_prefixes", "split_label"]

OUTSIDE = "O"
_PREFIXES = {"B": "B", "I": "I", "E": "E", "L": "E", "S": "S", "U": "S"}

# Kind of an entity, its first word, and one past its last.
Chunk = tuple[str, int, int]


def split_label(label: str) -> tuple[str, str]:
    """Return the place within an entity (B, I, E, S, or O for none), and the entity's kind."""
    if label == OUTSIDE:
        return OUTSIDE, ""
    if label[1:2] == "-" and label[0] in _PREFIXES:
        return _PREFIXES[label[0]], label[2:]
    return "I", label


def has_prefixes(labels: Iterable[str]) -> bool:
    """Tell whether labels say where entities begin: those of parts of speech, say, do not."""
    return any(label[1:2] == "-" and label[0] in _PREFIXES for label in labels)


def find_chunks(labels: Sequence[str]) -> list[Chunk]:
    """Find the entities.

    Args:
        labels: The label of every word.

    Returns:
        The entities, in order.
    """
    chunks: list[Chunk] = []
    last_place, last_kind, start = OUTSIDE, "", 0
    for index, label in enumerate([*labels, OUTSIDE]):
        place, kind = split_label(label)
        differs = kind != last_kind
        if last_place != OUTSIDE and (last_place in "ES" or place in "BSO" or differs):
            chunks.append((last_kind, start, index))
            last_place = OUTSIDE
        if place != OUTSIDE and last_place == OUTSIDE:
            start = index
        last_place, last_kind = place, kind
    return chunks
