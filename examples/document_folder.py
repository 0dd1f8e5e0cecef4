"""Ask a question of all .txt files in a folder, and rank what they answer.

python examples/document_folder.py examples/data/letters "Where was the gold found?"

All passages are answered in one call, which computes them together.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from bert_rt import Answer, Runtime


@dataclass(frozen=True)
class Found:
    """An answer and the file that holds it."""

    path: Path
    line: int
    answer: Answer


def ask(runtime: Runtime, folder: Path, question: str) -> list[Found]:
    """Ask every file.

    Args:
        runtime: For question answering.
        folder: Its .txt files are read, those of its subfolders, too.
        question: The question.

    Returns:
        One answer a file, the most likely first.
    """
    paths = sorted(folder.rglob("*.txt"))
    texts = [path.read_text(encoding="utf-8") for path in paths]
    answers = runtime.answer_batch([(question, text) for text in texts])
    found = [
        Found(path, text.count("\n", 0, answer.start) + 1, answer)
        for path, text, answer in zip(paths, texts, answers, strict=True)
    ]
    # A score is a probability within one text. Between texts the raw score ranks.
    return sorted(found, key=lambda item: -item.answer.logit)


def main() -> None:
    """Ask what the command line says, and print the three best answers."""
    parser = argparse.ArgumentParser(description="Ask a question of all .txt files in a folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("question")
    args = parser.parse_args()
    with Runtime.load() as runtime:
        for item in ask(runtime, args.folder, args.question)[:3]:
            text = " ".join(item.answer.text.split())
            print(f"{item.answer.logit:5.1f}  {text}  ({item.path.name}:{item.line})")


if __name__ == "__main__":
    main()
