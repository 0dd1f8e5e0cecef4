"""Answer a file of questions: JSON lines in, JSON lines out, in bounded memory.

    python examples/batch_file.py examples/data/questions.jsonl answers.jsonl

A line of the input is {"id", "question", "context"}; the output has one line for each, in order.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bert_rt import Runtime


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Read the records of a file one by one."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def answer_file(runtime: Runtime, source: Path, target: Path) -> int:
    """Answer a file.

    Args:
        runtime: For question answering.
        source: Is read twice, a few questions ahead of the answers.
        target: Is written.

    Returns:
        The number of questions.
    """
    pairs = ((record["question"], record["context"]) for record in read(source))
    count = 0
    with target.open("w", encoding="utf-8") as out:
        for record, answer in zip(read(source), runtime.stream(pairs), strict=True):
            result = {"id": record["id"], "answer": answer.text, "score": round(answer.score, 3)}
            out.write(json.dumps(result) + "\n")
            count += 1
    return count


def main() -> None:
    """Answer the file that the command line names."""
    parser = argparse.ArgumentParser(description="Answer a file of questions.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args()
    with Runtime.load() as runtime:
        count = answer_file(runtime, args.source, args.target)
    print(f"{count} answers are in {args.target}")


if __name__ == "__main__":
    main()
