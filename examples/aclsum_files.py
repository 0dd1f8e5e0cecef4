"""ACLSum (papers and summaries of three sentences) in the form that train.finetune reads.

    pip install aclsum
    python examples/aclsum_files.py --output_dir data

Writes train.jsonl, dev.jsonl and test.jsonl: the sentences of abstract, introduction and
conclusion, and as one summary the sentences about challenge, approach and outcome.

Source: Takeshita et al. 2024, ACLSum, arXiv:2403.05303.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

_FILES = {"train": "train", "val": "dev", "test": "test"}
_ASPECTS = ("challenge", "approach", "outcome")


def document_line(document: Any) -> str:
    """Return a document of the package aclsum as a line of JSON."""
    summary = " ".join(document.summaries[aspect] for aspect in _ASPECTS)
    return json.dumps({"source": document.get_all_sentences(), "summary": summary})


def write_files(output_dir: Path) -> list[Path]:
    """Write one file for each part of the data; returns their paths."""
    from aclsum import ACLSum

    output_dir.mkdir(parents=True, exist_ok=True)
    paths = []
    for split, name in _FILES.items():
        path = output_dir / f"{name}.jsonl"
        lines = [document_line(document) for document in ACLSum(split)]
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        paths.append(path)
    return paths


def main() -> None:
    """Write the files, and say which."""
    parser = argparse.ArgumentParser(description="Write ACLSum's files.")
    parser.add_argument("--output_dir", type=Path, required=True)
    for path in write_files(parser.parse_args().output_dir):
        print(path)


if __name__ == "__main__":
    main()
