"""python -m train.unanswerable: add questions without an answer to a file of SQuAD v1.1.

SQuAD v2.0's were written by people who tried to fool models: the paragraph is on the topic and
holds a likely answer. Those here are made of the file's own questions, in several ways at once, so
that no single one can be learnt in place of reading.

Source: Rajpurkar et al. 2018, arXiv:1806.03822; how often each kind is wanted follows the labels of
    Lee et al. 2020, "SQuAD2-CR", of v2.0's training questions.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from bert_rt.errors import ConfigError, InputError
from bert_rt.support.cli import dropped, make_parser, write_json
from bert_rt.support.progress import progress
from bert_rt.tasks.question_answering.squad import SquadExample, read_squad
from train.tasks.question_answering.squad_file import (
    add_file_flags,
    check_files,
    output_path,
    write_squad,
)
from train.tasks.unanswerable.passage_swaps import Article, without_answer
from train.tasks.unanswerable.question_edits import Passage, edit_question
from train.tasks.unanswerable.wording import WordKinds, content_words, words_of

__all__ = ["KINDS", "add_unanswerable", "main", "split_articles"]

# Of SQuAD2-CR's 13,297 training questions 44 % have an entity swapped, 12 % a number, 21 % an
# antonym, 14 % a negation, 2 % what excludes the answer, 6 % ask what is not stated. Other
# paragraphs get more, since theirs are the only ones that keep a question as people wrote it.
KINDS: Mapping[str, float] = {
    "name": 0.36,
    "number": 0.10,
    "opposite": 0.18,
    "noun": 0.04,
    "negation": 0.12,
    "other_paragraph": 0.15,
    "removed_sentence": 0.05,
}
"""The kinds of questions without an answer, by name, and the share of each where it can be had."""

# Of a question's words that carry content, those that its paragraph has, at least. In SQuAD v2.0 it
# has 70 % of an answerable question's and 66 % of the others'; without a bound it would be 51 %
# here, and counting words would tell the two apart.
_MIN_SHARED = 0.5

# As in SQuAD v2.0: a third of the training questions have no answer, half of dev's.
_SHARE = 1 / 3
_HELD_OUT_SHARE = 0.5


@dataclass(frozen=True)
class _Maker:
    """Makes questions of one article unanswerable."""

    article: Article
    passages: Sequence[Passage]
    places: Mapping[str, int]

    def make(self, kind: str, example: SquadExample, rng: random.Random) -> SquadExample | None:
        """Make one of a kind; None where the question yields none that is hard enough."""
        question, context = example.question, example.context
        passage = self.passages[self.places[context]]
        if kind == "removed_sentence":
            context = without_answer(example) or context
        elif kind == "other_paragraph":
            context = self._other(example)
        elif _is_close(question, passage.words):
            question = edit_question(kind, example, passage, self.passages, rng) or question
        if (question, context) == (example.question, example.context):
            return None
        place = self.places.get(context)
        words = set(words_of(context)) if place is None else self.passages[place].words
        if not _is_close(question, words):
            return None
        return replace(
            example,
            id=f"{example.id}-{kind}",
            question=question,
            context=context,
            answers=(),
            answer_starts=(),
            is_impossible=True,
        )

    def _other(self, example: SquadExample) -> str:
        asked = example.question.lower()
        for index in self.article.closest(example):
            if asked not in self.passages[index].questions:
                return self.passages[index].context
        return example.context


def _is_close(question: str, words: set[str]) -> bool:
    """Tell whether enough of a question's words are among those of a paragraph."""
    content = content_words(question)
    return len(content & words) >= _MIN_SHARED * len(content)


def add_unanswerable(
    examples: Sequence[SquadExample],
    *,
    share: float,
    seed: int,
    kinds: WordKinds | None = None,
) -> list[SquadExample]:
    """Add questions without an answer to questions that all have one.

    Args:
        examples: Questions with an answer, in a file's order; paragraphs with the same title that
            follow each other are an article.
        share: Part of the result that has no answer, within (0, 1).
        seed: Decides which questions are changed, and into what.
        kinds: What is known of words; None for what the paragraphs themselves tell.

    Returns:
        All examples, and behind those of each article what was made of them: of one question at
        most one of each kind. The same arguments always give the same result.

    Raises:
        ConfigError: The share is out of range, or more than the questions yield.
        InputError: There are no examples, or one has no answer already.
    """
    if not 0.0 < share < 1.0:
        raise ConfigError(f"unanswerable_share: got {share}, want a number above 0 and below 1")
    if not examples:
        raise InputError("examples: got 0 questions, want at least 1")
    for example in examples:
        if not example.answers:
            raise InputError(
                f"question {example.id!r} has no answer already, want questions that have one"
            )
    wanted = round(len(examples) * share / (1.0 - share))
    made = _make(examples, _makers(examples, kinds or _word_kinds(examples)), wanted, seed)
    count = sum(map(len, made.values()))
    if count < wanted:
        most = count / (len(examples) + count)
        raise ConfigError(
            f"unanswerable_share: got {share}, want at most {most:.3f}: these questions yield no "
            "more"
        )
    return _in_place(examples, made)


def _word_kinds(examples: Sequence[SquadExample]) -> WordKinds:
    return WordKinds(list(dict.fromkeys(example.context for example in examples)))


def _makers(examples: Sequence[SquadExample], kinds: WordKinds) -> list[_Maker]:
    """Return the maker of every example; one for all of an article."""
    makers = []
    for _, group in groupby(examples, key=lambda example: example.title):
        members = list(group)
        questions: dict[str, set[str]] = {}
        for example in members:
            questions.setdefault(example.context, set()).add(example.question.lower())
        maker = _Maker(
            Article(list(questions)),
            [Passage(text, frozenset(asked), kinds) for text, asked in questions.items()],
            {text: index for index, text in enumerate(questions)},
        )
        makers += [maker] * len(members)
    return makers


def _make(
    examples: Sequence[SquadExample], makers: Sequence[_Maker], wanted: int, seed: int
) -> dict[int, list[SquadExample]]:
    """Return what was made of each question, by its index."""
    rng = random.Random(seed)
    order = list(range(len(examples)))
    rng.shuffle(order)
    made: dict[int, list[SquadExample]] = {}
    tried: dict[int, set[str]] = {index: set() for index in order}
    counts = Counter(dict.fromkeys(KINDS, 0))
    with progress("unanswerable", total=wanted, unit="questions") as shown:
        # A second question is made of one only where every one has had its turn.
        for index in order * len(KINDS):
            if counts.total() == wanted:
                break
            # What is furthest behind its share comes first, so that rare kinds are not missed.
            for kind in sorted(KINDS, key=lambda kind: counts[kind] / KINDS[kind]):
                if kind in tried[index]:
                    continue
                tried[index].add(kind)
                new = makers[index].make(kind, examples[index], rng)
                if new is not None:
                    made.setdefault(index, []).append(new)
                    counts[kind] += 1
                    shown.advance()
                    break
    return made


def _in_place(
    examples: Sequence[SquadExample], made: Mapping[int, Sequence[SquadExample]]
) -> list[SquadExample]:
    taken = {str(example.id) for example in examples}
    result: list[SquadExample] = []
    for _, group in groupby(enumerate(examples), key=lambda item: item[1].title):
        members = list(group)
        result += [example for _, example in members]
        for index, _ in members:
            for new in made.get(index, ()):
                if new.id in taken:
                    raise InputError(f"question {new.id!r}: this id is wanted for a new question")
                result.append(new)
    return result


def split_articles(
    examples: Sequence[SquadExample], *, fraction: float, seed: int
) -> tuple[list[SquadExample], list[SquadExample]]:
    """Set whole articles aside.

    Args:
        examples: Questions, in a file's order.
        fraction: Part of the questions to set aside, at least, within (0, 1).
        seed: Of the draw.

    Returns:
        The questions to train on and those set aside, both in order and at least one article each.

    Raises:
        ConfigError: The fraction is out of range, or leaves no article to train on.
    """
    if not 0.0 < fraction < 1.0:
        raise ConfigError(f"held_out_fraction: got {fraction}, want a number above 0 and below 1")
    sizes = Counter(example.title for example in examples)
    titles = list(sizes)
    random.Random(seed).shuffle(titles)
    held_out: set[str] = set()
    while sum(sizes[title] for title in held_out) < fraction * len(examples):
        held_out.add(titles[len(held_out)])
    if len(held_out) == len(titles):
        raise ConfigError(
            f"held_out_fraction: got {fraction}, which leaves none of the {len(titles)} articles "
            "to train on"
        )
    return (
        [example for example in examples if example.title not in held_out],
        [example for example in examples if example.title in held_out],
    )


def main(argv: Sequence[str]) -> int:
    """Write the files that the command line asks for, and print what they hold.

    Args:
        argv: The arguments.

    Returns:
        0; every failure is an exception.
    """
    args = _parser().parse_args(argv)
    check_files(
        train_file=args.train_file, output_file=args.output_file, held_out_file=args.held_out_file
    )
    examples = read_squad(args.train_file, dropped=dropped(args), check_positions=True)
    # All that there is: how words are used does not depend on who trains on them.
    kinds = _word_kinds(examples)
    held_out: list[SquadExample] = []
    if args.held_out_file is not None:
        fraction = args.held_out_fraction
        examples, held_out = split_articles(examples, fraction=fraction, seed=args.seed)
    try:
        examples = add_unanswerable(
            examples, share=args.unanswerable_share, seed=args.seed, kinds=kinds
        )
        if held_out:
            share = args.held_out_unanswerable_share
            held_out = add_unanswerable(held_out, share=share, seed=args.seed, kinds=kinds)
    except InputError as error:
        raise type(error)(f"{args.train_file}: {error}") from None
    summary = {}
    for file, part in ((args.output_file, examples), (args.held_out_file, held_out)):
        if part:
            write_squad(file, part)
            summary[str(file)] = counts = _count(part)
            shares = ", ".join(f"{kind} {counts[kind]}" for kind in KINDS)
            print(f"{file}: {counts['total']} questions, {counts['impossible']} without an answer")
            print(f"of these: {shares}")
    write_json(args.json, summary)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("train.unanswerable", "Add questions without an answer to SQuAD v1.1.")
    add_file_flags(parser)
    parser.add_argument("--unanswerable_share", type=float, default=_SHARE, metavar="P")
    parser.add_argument(
        "--held_out_file",
        metavar="OUT",
        type=output_path,
        help="set whole articles aside, in a file",
    )
    parser.add_argument("--held_out_fraction", type=float, default=0.05, metavar="R")
    parser.add_argument(
        "--held_out_unanswerable_share", type=float, default=_HELD_OUT_SHARE, metavar="P"
    )
    return parser


def _count(examples: Sequence[SquadExample]) -> dict[str, int]:
    kinds = Counter(str(e.id).rpartition("-")[2] for e in examples if e.is_impossible)
    return {
        "total": len(examples),
        "impossible": kinds.total(),
        **{kind: kinds[kind] for kind in KINDS},
    }
