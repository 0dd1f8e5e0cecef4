"""The console script: `bert-rt VERB ...` runs the module of that verb, nothing more."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence

from bert_rt.support.cli import run_command

__all__ = ["VERBS", "main"]

VERBS = {
    "answer": "runtime.answer",
    "average": "train.average",
    "bench": "runtime.bench",
    "classify": "runtime.classify",
    "doctor": "runtime.doctor",
    "evaluate": "runtime.evaluate",
    "export": "compile.export",
    "finetune": "train.finetune",
    "pretrain": "train.pretrain",
    "serve": "runtime.serve",
    "unanswerable": "train.unanswerable",
    "verify": "compile.verify",
    "vocab": "train.vocab",
}


def _run_verb(argv: Sequence[str]) -> int:
    known = ", ".join(sorted(VERBS))
    if argv[:1] in (["-h"], ["--help"]):
        print(f"usage: bert-rt VERB [flags], where VERB is one of {known}; each takes --help")
        return 0
    if not argv or argv[0] not in VERBS:
        got = f"unknown verb {argv[0]!r}" if argv else "no verb given"
        print(f"bert-rt: error: {got}; verbs are {known}", file=sys.stderr)
        return 2
    module = VERBS[argv[0]]
    sys.argv = [module, *argv[1:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


def main() -> int:
    """Run the verb that the command line names.

    Returns:
        The exit code: 2 where there is no such verb; otherwise the module ends the program.
    """
    return run_command(_run_verb)


if __name__ == "__main__":
    sys.exit(main())
