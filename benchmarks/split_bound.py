"""How much faster an artifact with split layers can be at most where all passages are kept.

    python benchmarks/split_bound.py --artifact SPLIT --data dev-v1.1.json.gz

Counts the tokens that go through a layer, for every question of the data, with the ordinary windows
and with those of split layers, which leave room for the longest question. All tokens of a window go
through the upper layers; of a kept passage only the question's go through the split ones, and
through the projection to queries, keys and values behind them. Layers cost the same, and in a layer
weights what they multiply; attention's products, embeddings, tokenizing and decoding are left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from bert_rt import Runtime
from bert_rt.support.cli import run_command
from bert_rt.tasks.question_answering.squad import SquadExample, read_squad

_CHUNK = 500


def count_tokens(runtime: Runtime, examples: Sequence[SquadExample]) -> tuple[int, int]:
    """Return the tokens of all windows, and those of their questions."""
    num_tokens = num_question_tokens = 0
    options = runtime.options()
    for start in range(0, len(examples), _CHUNK):
        chunk = examples[start : start + _CHUNK]
        items = [runtime.task.check_input((it.question, it.context), "") for it in chunk]
        for prepared in runtime.task.prepare(items, runtime.session, options):
            for sequence in prepared.sequences:
                num_tokens += sequence.num_tokens
                num_in_passage = int(np.count_nonzero(sequence.token_type_ids))
                num_question_tokens += sequence.num_tokens - num_in_passage
    return num_tokens, num_question_tokens


def main(argv: Sequence[str]) -> None:
    """Print the counts and the bound for every number of split layers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--artifact", required=True, metavar="SPLIT", help="with split layers")
    parser.add_argument("--ordinary", metavar="ART", help="without; left out: the embedded one")
    parser.add_argument("--data", required=True, metavar="F", help="SQuAD, .json or .json.gz")
    args = parser.parse_args(argv)
    examples = read_squad(args.data)
    counts = {}
    for name, path in (("ordinary", args.ordinary), ("split", args.artifact)):
        with Runtime.load(path, num_threads=1) as runtime:
            counts[name] = count_tokens(runtime, examples)
            architecture = runtime.manifest.architecture
        tokens, of_questions = (count / len(examples) for count in counts[name])
        print(f"{name}: {tokens:.1f} tokens a question, {of_questions:.1f} of them the question's")
    (ordinary, _), (split, of_questions) = counts["ordinary"], counts["split"]
    num_layers, width = architecture.num_hidden_layers, architecture.hidden_size
    projection = 3 * width / (4 * width + 2 * architecture.intermediate_size)  # share of a layer
    for num_split in range(1, num_layers):
        kept = (num_split + projection) * (split - of_questions)
        cost = split - kept / num_layers
        print(f"{num_split} of {num_layers} layers split: at most {ordinary / cost:.2f} x")


if __name__ == "__main__":
    sys.exit(run_command(main))
