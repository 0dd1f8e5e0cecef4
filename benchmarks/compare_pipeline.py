"""Our question-answering pipeline beside that of Transformers 4.x, on real questions.

    python benchmarks/compare_pipeline.py --transformers_python PYTHON --checkpoint DIR \
        --data dev-v1.1.json.gz [--limit 300] [--num_threads 2] [--json FILE]

PYTHON is that of an environment with `pip install torch==2.13.0 'transformers==4.57.*'`. Questions
are spread evenly over the file. Every setting below runs on both sides; results are compared
dictionary by dictionary.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bert_rt import pipeline
from bert_rt.tasks.question_answering.squad import SquadExample, read_squad

# Name: what the calls ask for. "defaults" has all questions, the others a part of them.
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "top_k": {"top_k": 5},
    "short windows": {"max_seq_len": 96, "doc_stride": 32, "top_k": 3},
    "impossible": {"handle_impossible_answer": True, "top_k": 3},
    "tokens": {"align_to_words": False, "top_k": 3, "max_answer_len": 30},
    "whole articles": {"top_k": 3, "handle_impossible_answer": True},
}
# Share of the questions. An article is 40 windows or more, all of which a question looks at.
PART = 0.2
ARTICLE_PART = 0.02


def make_inputs(examples: list[SquadExample], name: str, limit: int) -> list[dict[str, str]]:
    """Pick a setting's questions evenly; each over its paragraph, or over its whole article."""
    is_article = name == "whole articles"
    part = 1.0 if name == "defaults" else ARTICLE_PART if is_article else PART
    count = min(max(1, round(limit * part)), len(examples))
    picked = [examples[index * len(examples) // count] for index in range(count)]
    if not is_article:
        return [{"question": item.question, "context": item.context} for item in picked]
    texts: dict[str, dict[str, None]] = {}
    for item in examples:
        texts.setdefault(item.title, {})[item.context] = None
    return [{"question": item.question, "context": "\n".join(texts[item.title])} for item in picked]


def run_theirs(python: str, requests: list[dict[str, Any]], num_threads: int) -> dict[str, Any]:
    """Make the calls in Transformers 4.x, in another environment."""
    script = Path(__file__).with_name("transformers4_calls.py")
    with tempfile.TemporaryDirectory() as directory:
        calls, results = Path(directory, "calls.json"), Path(directory, "results.json")
        calls.write_text(json.dumps(requests))
        command = [python, str(script), str(calls), str(results), str(num_threads)]
        subprocess.run(command, check=True)
        output: dict[str, Any] = json.loads(results.read_text())
    return output


def as_list(result: Any) -> list[dict[str, Any]]:
    """Return the answers of one question, whether there is one or several."""
    return result if isinstance(result, list) else [result]


def compare(theirs: list[Any], ours: list[Any]) -> dict[str, Any]:
    """Count questions with equal answers, and measure how far scores are apart."""
    equal_best = equal_all = same_shape = 0
    differences = []
    for their_result, our_result in zip(theirs, ours, strict=True):
        want, got = as_list(their_result), as_list(our_result)
        same_shape += isinstance(their_result, list) == isinstance(our_result, list)
        places = [[(a["answer"], a["start"], a["end"]) for a in side] for side in (want, got)]
        equal_best += places[0][:1] == places[1][:1]
        equal_all += places[0] == places[1]
        pairs = zip(want, got, strict=False)
        differences += [abs(a["score"] - b["score"]) for a, b in pairs]
    return {
        "questions": len(theirs),
        "equal_best_percent": 100 * equal_best / len(theirs),
        "equal_all_percent": 100 * equal_all / len(theirs),
        "same_shape_percent": 100 * same_shape / len(theirs),
        "max_score_difference": max(differences),
    }


def main() -> None:
    """Compare setting by setting; exit with 1 where the agreement is less than promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transformers_python", required=True)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--num_threads", type=int, default=2)
    parser.add_argument("--json")
    args = parser.parse_args()
    examples = read_squad(args.data)
    inputs = {name: make_inputs(examples, name, args.limit) for name in SETTINGS}
    requests = [
        {
            "task": "question-answering",
            "model": args.checkpoint,
            "options": {},
            "calls": [{"args": [], "kwargs": item | options} for item in inputs[name]],
        }
        for name, options in SETTINGS.items()
    ]
    theirs = run_theirs(args.transformers_python, requests, args.num_threads)
    results: dict[str, Any] = {"versions": theirs["versions"], "settings": {}}
    ours = pipeline("question-answering", args.checkpoint, num_threads=args.num_threads)
    with ours:
        for index, (name, options) in enumerate(SETTINGS.items()):
            start_s = time.perf_counter()
            answers = [ours(**item, **options) for item in inputs[name]]
            seconds = time.perf_counter() - start_s
            result = compare(theirs["results"][index], answers)
            result |= {"seconds": seconds, "their_seconds": theirs["seconds"][index]}
            results["settings"][name] = result
            print(name, json.dumps(result))
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=2) + "\n")
    worst = min(item["equal_best_percent"] for item in results["settings"].values())
    furthest = max(item["max_score_difference"] for item in results["settings"].values())
    sys.exit(worst < 99 or furthest > 1e-3)


if __name__ == "__main__":
    main()
