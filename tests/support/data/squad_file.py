"""A small SQuAD file in the words of the tests' vocabulary."""

from __future__ import annotations

import json
from pathlib import Path


def write_squad(path: Path, count: int) -> Path:
    paragraphs = []
    for index in range(count):
        context = "the cat sat on the mat in paris. " * (1 + index % 3) + "x " * index + "end"
        answer = {"text": "cat", "answer_start": 4}
        question = {"id": f"q{index}", "question": "who sat on the mat?", "answers": [answer]}
        paragraphs.append({"context": context, "qas": [question]})
    document = {"version": "1.1", "data": [{"title": "cats", "paragraphs": paragraphs}]}
    path.write_text(json.dumps(document))
    return path
