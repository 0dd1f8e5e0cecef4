"""The console script: `bert-rt VERB ...` runs the module of that verb, nothing more.

`train`, `compile` and `runtime` are names that other people's files have, too: a train.py in the
current directory, or on PYTHONPATH, comes before ours where Python looks by name. So the package of
a verb is loaded from beside bert_rt, wherever that is.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import runpy
import sys
from collections.abc import Sequence

from bert_rt.support.cli import run_command

__all__ = ["VERBS", "main"]

_HERE = os.path.dirname(os.path.abspath(__file__))

VERBS = {
    "answer": "runtime.answer",
    "average": "train.average",
    "batch": "runtime.batch",
    "bench": "runtime.bench",
    "classify": "runtime.classify",
    "demo": "runtime.demo",
    "doctor": "runtime.doctor",
    "evaluate": "runtime.evaluate",
    "export": "compile.export",
    "finetune": "train.finetune",
    "pretrain": "train.pretrain",
    "pseudo_label": "train.pseudo_label",
    "serve": "runtime.serve",
    "summarize": "runtime.summarize",
    "tag": "runtime.tag",
    "translate": "runtime.translate",
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
    _load_package(module.partition(".")[0], module)
    sys.argv = [module, *argv[1:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


def _load_package(name: str, module: str) -> None:
    """Import a program's package from beside bert_rt, and say where another one hides it."""
    ours = importlib.machinery.PathFinder.find_spec(name, [os.path.dirname(_HERE)])
    assert ours is not None and ours.loader is not None, f"{name} is installed with bert_rt"
    found = importlib.util.find_spec(name)
    if found is not None and found.origin == ours.origin:
        return
    if found is not None:
        where = found.origin or ", ".join(found.submodule_search_locations or ())
        print(
            f"note: {where} hides bert-rt's own package {name!r} from Python; this command runs "
            f"bert-rt's, python -m {module} would not",
            file=sys.stderr,
        )
    package = importlib.util.module_from_spec(ours)
    sys.modules[name] = package
    ours.loader.exec_module(package)


def main() -> int:
    """Run the verb that the command line names.

    Returns:
        The exit code: 2 where there is no such verb; otherwise the module ends the program.
    """
    return run_command(_run_verb)


if __name__ == "__main__":
    sys.exit(main())
