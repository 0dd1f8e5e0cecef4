"""Tests of bert_rt.tasks.token_classification.chunks."""

from __future__ import annotations

import pytest

from bert_rt.tasks.token_classification.chunks import find_chunks, has_prefixes, split_label

# Labels, and what get_entities of seqeval 1.2.2 finds in them: kind, first word, one past the last.
SEQEVAL = [
    ("E-B O I-B S-B S-A E-B", "B:0:1 B:2:3 B:3:4 A:4:5 B:5:6"),
    ("B-B I-B B-A B-A E-A S-A S-B B-A", "B:0:2 A:2:3 A:3:5 A:5:6 B:6:7 A:7:8"),
    ("E-B E-A I-A S-B S-A", "B:0:1 A:1:2 A:2:3 B:3:4 A:4:5"),
    ("S-B I-B O S-B O B-A E-B", "B:0:1 B:1:2 B:3:4 A:5:6 B:6:7"),
    ("S-A E-A I-A E-A B-A I-A I-A I-A B-B", "A:0:1 A:1:2 A:2:4 A:4:8 B:8:9"),
    ("S-A B-A B-A E-A S-B S-A B-A I-B", "A:0:1 A:1:2 A:2:4 B:4:5 A:5:6 A:6:7 B:7:8"),
    ("I-B B-A S-B E-A S-B I-A S-B I-B", "B:0:1 A:1:2 B:2:3 A:3:4 B:4:5 A:5:6 B:6:7 B:7:8"),
    ("B-A E-B E-A I-A I-B B-B I-A", "A:0:1 B:1:2 A:2:3 A:3:4 B:4:5 B:5:6 A:6:7"),
    ("B-A B-A B-B B-B O B-A S-B", "A:0:1 A:1:2 B:2:3 B:3:4 A:5:6 B:6:7"),
    ("S-B I-B S-B I-A I-A E-B", "B:0:1 B:1:2 B:2:3 A:3:5 B:5:6"),
    ("I-B S-A S-A E-A B-A E-A B-A S-A E-A", "B:0:1 A:1:2 A:2:3 A:3:4 A:4:6 A:6:7 A:7:8 A:8:9"),
    ("B-B E-A E-B O B-A", "B:0:1 A:1:2 B:2:3 A:4:5"),
    ("S-B B-A O B-A I-A B-A E-B B-A E-A", "B:0:1 A:1:2 A:3:5 A:5:6 B:6:7 A:7:9"),
    ("O I-A B-B B-A S-A I-A O O S-B", "A:1:2 B:2:3 A:3:4 A:4:5 A:5:6 B:8:9"),
    ("B-A I-B B-A I-A B-A I-B", "A:0:1 B:1:2 A:2:4 A:4:5 B:5:6"),
    ("E-B B-B O S-B S-A", "B:0:1 B:1:2 B:3:4 A:4:5"),
    ("B-A E-B I-A I-B E-A S-A B-B I-A O", "A:0:1 B:1:2 A:2:3 B:3:4 A:4:5 A:5:6 B:6:7 A:7:8"),
    ("I-B B-A S-A B-B O S-A E-B S-B", "B:0:1 A:1:2 A:2:3 B:3:4 A:5:6 B:6:7 B:7:8"),
]


@pytest.mark.parametrize(("labels", "want"), SEQEVAL)
def test_entities_are_those_of_seqeval(labels: str, want: str) -> None:
    found = find_chunks(labels.split())
    assert " ".join(f"{kind}:{first}:{end}" for kind, first, end in found) == want


@pytest.mark.parametrize(
    ("labels", "want"),
    [
        ([], []),
        (["O", "O"], []),
        (["U-A", "U-A", "B-A", "L-A"], [("A", 0, 1), ("A", 1, 2), ("A", 2, 4)]),
        (["PER", "PER", "O", "LOC", "PER"], [("PER", 0, 2), ("LOC", 3, 4), ("PER", 4, 5)]),
        (["B-a-b", "I-a-b", "I-c"], [("a-b", 0, 2), ("c", 2, 3)]),
    ],
)
def test_other_ways_to_write_labels(labels: list[str], want: list[tuple[str, int, int]]) -> None:
    assert find_chunks(labels) == want


def test_parts_of_a_label() -> None:
    assert split_label("O") == ("O", "")
    assert split_label("L-ORG") == ("E", "ORG")
    assert split_label("NOUN") == ("I", "NOUN")
    assert has_prefixes(["O", "B-X"]) and not has_prefixes(["O", "NOUN", "X-Y", "B"])
