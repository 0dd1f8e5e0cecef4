"""Small articles with names, years and opposites, for questions that are to lose their answer."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

_PEOPLE = ("Ada Brook", "Ben Carter", "Cora Dale", "Dan Ellis", "Eva Frost", "Finn Grant")
_CITIES = ("Paris", "Rome", "Oslo", "Bern", "Lima", "Cairo", "Delhi", "Quito")
_GOODS = ("bread", "butter", "salt", "pepper", "gold", "silver")


def make_articles(file: Path, *, num_articles: int = 4, num_paragraphs: int = 5) -> Path:
    """Write a SQuAD v1.1 file whose paragraphs are about the same people, cities and years."""
    rng = random.Random(0)
    data = []
    for number in range(num_articles):
        paragraphs = [_paragraph(rng, f"{number}-{index}") for index in range(num_paragraphs)]
        data.append({"title": f"article {number}", "paragraphs": paragraphs})
    file.write_text(json.dumps({"version": "1.1", "data": data}), encoding="utf-8")
    return file


def _paragraph(rng: random.Random, prefix: str) -> dict[str, Any]:
    one, other = rng.sample(_PEOPLE, 2)
    home, port, market = rng.sample(_CITIES, 3)
    years = [str(year) for year in rng.sample(range(1801, 1999), 3)]
    good, worse = rng.sample(_GOODS, 2)
    context = (
        f"In {years[0]} the painter {one} was born in {home}. The first ship of {one} sailed to "
        f"{port} with {good} and {worse}. The painter {other} met them there in {years[1]}, after "
        f"a long winter. In {years[2]} a great fire burned the old market of {market}, where the "
        f"painter {other} had sold {good} and {worse}."
    )
    asked = (
        (f"Where was {one} born in {years[0]}?", home),
        (f"Where did the first ship of {one} sail to?", port),
        (f"In which year did {other} come, after a long winter?", years[1]),
        (f"What burned the market of {market} in {years[2]}?", "fire"),
        (f"Which painter sold {good}?", other),
        ("In which year was a painter born?", years[0]),
    )
    questions = [
        {
            "id": f"{prefix}-{index}",
            "question": question,
            "answers": [{"text": answer, "answer_start": context.index(answer)}],
        }
        for index, (question, answer) in enumerate(asked)
    ]
    return {"context": context, "qas": questions}
