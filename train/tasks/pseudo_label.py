"""python -m train.pseudo_label: add questions, answered by a model, to a file of SQuAD v1.1.

Every passage is asked questions of the other passages of its article. A model that learns from a
teacher sees what the teacher makes of them. They are so many that no passage's answers can be
learned by heart, which is what a small model with split layers does with those of the file.

Source: Lee 2013, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep
    Neural Networks".
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from bert_rt import Runtime
from bert_rt.errors import ConfigError, InputError
from bert_rt.support.cli import dropped, int_at_least, make_parser, write_json
from bert_rt.support.progress import progress
from bert_rt.tasks.question_answering.answering import QuestionAnswering
from bert_rt.tasks.question_answering.squad import SquadExample, read_squad
from train.tasks.question_answering.squad_file import add_file_flags, check_files, write_squad

__all__ = ["add_questions", "main"]


def add_questions(
    examples: Sequence[SquadExample], runtime: Runtime, *, per_passage: int, seed: int
) -> list[SquadExample]:
    """Ask every passage questions of the other passages of its article.

    Args:
        examples: Questions, in a file's order; those with the same title that follow each other
            are an article.
        runtime: Answers them.
        per_passage: How many new questions a passage gets; fewer where its article has no more.
        seed: Decides which.

    Returns:
        All examples, and behind those of each article the new ones, but for those without answer.

    Raises:
        ConfigError: The runtime's artifact answers no questions.
        InputError: A question has no answer, or an id that a new one wants.
        EngineError: The engine failed.
    """
    if runtime.task.name != QuestionAnswering.name:
        raise ConfigError(
            f"artifact: got one of {runtime.task.name}, want one of {QuestionAnswering.name}"
        )
    for example in examples:
        if not example.answers:
            raise InputError(f"question {example.id!r} has no answer, want questions that have one")
    rng = random.Random(seed)
    articles = [list(group) for _, group in groupby(examples, key=lambda it: it.title)]
    asked = [_ask(article, per_passage, rng) for article in articles]
    flat = [example for new in asked for example in new]
    taken = {str(example.id) for example in examples}
    for example in flat:
        if str(example.id) in taken:
            raise InputError(f"question {example.id!r}: this id is wanted for a new question")
        taken.add(str(example.id))
    answers = runtime.stream((example.question, example.context) for example in flat)
    result: list[SquadExample] = []
    with progress("pseudo_label", total=len(flat), unit="questions") as shown:
        for article, new in zip(articles, asked, strict=True):
            result += article
            for example, answer in zip(new, answers, strict=False):
                shown.advance()
                if answer.text:
                    places = (answer.start,)
                    result.append(replace(example, answers=(answer.text,), answer_starts=places))
    return result


def _ask(
    article: Sequence[SquadExample], per_passage: int, rng: random.Random
) -> list[SquadExample]:
    """Return the new questions of an article, without answers."""
    new = []
    for place, context in enumerate(dict.fromkeys(example.context for example in article)):
        known = {example.question for example in article if example.context == context}
        others = [it for it in article if it.context != context and it.question not in known]
        for example in rng.sample(others, min(per_passage, len(others))):
            identifier = f"{example.id}-over-{place}"
            new.append(replace(example, id=identifier, context=context))
    return new


def main(argv: Sequence[str]) -> int:
    """Write the file that the command line asks for, and print what it holds.

    Args:
        argv: The arguments.

    Returns:
        0; every failure is an exception.
    """
    args = _parser().parse_args(argv)
    check_files(train_file=args.train_file, output_file=args.output_file)
    examples = read_squad(args.train_file, dropped=dropped(args), check_positions=True)
    with Runtime.load(args.artifact, num_threads=args.num_threads) as runtime:
        try:
            result = add_questions(
                examples, runtime, per_passage=args.questions_per_passage, seed=args.seed
            )
        except InputError as error:
            raise type(error)(f"{args.train_file}: {error}") from None
    write_squad(args.output_file, result)
    counts = {"total": len(result), "new": len(result) - len(examples)}
    print(f"{args.output_file}: {counts['total']} questions, {counts['new']} of them new")
    write_json(args.json, counts)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("train.pseudo_label", "Add questions, answered by a model, to SQuAD v1.1.")
    add_file_flags(parser)
    parser.add_argument(
        "--artifact", metavar="ART", help="of the model that answers; left out: the embedded one"
    )
    parser.add_argument(
        "--questions_per_passage",
        type=int_at_least(1),
        default=4,
        metavar="N",
        help="of other passages of the article; default: %(default)s",
    )
    parser.add_argument("--num_threads", type=int_at_least(1), metavar="N")
    return parser
