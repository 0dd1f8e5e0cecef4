"""What every engine gets to do: questions of a SQuAD file, their windows, and how much that is.

Counts are of real tokens, never of padding: an engine that pads does more work for the same count.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bert_rt.engines.packing import pack, plan_batches
from bert_rt.errors import InputError
from bert_rt.model.config import BertConfig
from bert_rt.support.faults import Dropped
from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.tasks.question_answering.features import make_features
from bert_rt.tasks.question_answering.squad import SquadExample, read_squad
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import Feature, IntArray, PackedBatch

__all__ = [
    "ARITHMETIC",
    "Workload",
    "evenly_spaced",
    "evenly_spaced_blocks",
    "make_batches",
    "num_operations",
    "read_workload",
]

ARITHMETIC = (
    "operations = num_hidden_layers * (T * (8 D^2 + 4 D F) + 4 D * sum(S^2)) over sequences of S "
    "tokens, T = sum(S), D hidden_size, F intermediate_size: two a multiply-add, linear layers "
    "(query, key, value, attention output, both of the feed-forward) and the two products of "
    "attention; embeddings, norms, softmax, GELU and the head are left out"
)


@dataclass(frozen=True, slots=True)
class Workload:
    """Questions and their windows.

    Attributes:
        examples: The questions, with their gold answers.
        windows: For every question, its windows.
        split_windows: The same for models with split layers; empty where there is none.
        by_context: Whether questions on the same passage stay together.
    """

    examples: tuple[SquadExample, ...]
    windows: tuple[tuple[Feature, ...], ...]
    split_windows: tuple[tuple[Feature, ...], ...] = ()
    by_context: bool = False

    @property
    def features(self) -> list[Feature]:
        """The windows of all questions, in order."""
        return [feature for windows in self.windows for feature in windows]

    @property
    def lengths(self) -> list[int]:
        """Tokens of every window, special tokens included."""
        return [feature.num_tokens for feature in self.features]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Question and context of every question."""
        return [(example.question, example.context) for example in self.examples]

    def part(self, indices: Sequence[int]) -> Workload:
        """Take some of the questions.

        Args:
            indices: Which, in the order wanted.

        Returns:
            Those questions.
        """
        return Workload(
            tuple(self.examples[index] for index in indices),
            tuple(self.windows[index] for index in indices),
            tuple(self.split_windows[index] for index in indices if self.split_windows),
            self.by_context,
        )

    def as_read(self, *, is_split: bool) -> Workload:
        """Take the windows that a model with or without split layers reads."""
        return dataclasses.replace(self, windows=self.split_windows) if is_split else self

    @property
    def passages(self) -> list[IntArray]:
        """What stands behind the question in the windows, (T,), int32; each once."""
        parts = [feature.input_ids[feature.context_offset :] for feature in self.features]
        return list({part.tobytes(): part for part in parts}.values())

    def rounds(self, num_rounds: int) -> list[Workload]:
        """Deal the questions out, so that every round's lengths are spread like those of all.

        Args:
            num_rounds: At most the number of questions, or of passages where those of a passage
                stay together.

        Returns:
            One workload a round; every question is in exactly one.
        """
        groups = self.groups
        return [
            self.part([index for group in groups[start::num_rounds] for index in group])
            for start in range(num_rounds)
        ]

    @property
    def groups(self) -> list[list[int]]:
        """Indices of the questions that go into the same round."""
        if not self.by_context:
            return [[index] for index in range(len(self.examples))]
        numbered = enumerate(self.examples)
        return [
            [index for index, _ in group]
            for _, group in itertools.groupby(numbered, lambda pair: pair[1].context)
        ]


def evenly_spaced(total: int, count: int) -> list[int]:
    """Choose indices spread over a range.

    Args:
        total: Length of the range.
        count: How many are wanted.

    Returns:
        min(total, count) different indices, ascending.
    """
    count = min(total, count)
    return [(2 * index + 1) * total // (2 * count) for index in range(count)]


def evenly_spaced_blocks(features: Sequence[Feature], size: int, count: int) -> list[Feature]:
    """Choose runs of windows of like length, as they are neighbours when all are sorted.

    A small sample of single windows would make a padded batch of 32 span all lengths, which it
    does not where thousands are sorted. Runs keep what batches of up to `size` look like there.

    Args:
        features: All windows.
        size: Windows of a run.
        count: Runs wanted; fewer are taken where they would overlap.

    Returns:
        The windows of the runs, by length.
    """
    ordered = sorted(features, key=lambda feature: feature.num_tokens)
    count = max(1, min(count, len(ordered) // size))
    centres = evenly_spaced(len(ordered), count)
    starts = [max(0, min(centre - size // 2, len(ordered) - size)) for centre in centres]
    return [feature for start in starts for feature in ordered[start : start + size]]


def make_batches(
    features: Sequence[Feature], *, max_tokens: int, is_packed: bool = True
) -> list[PackedBatch]:
    """Pack windows as the scheduler does.

    Args:
        features: The windows.
        max_tokens: Budget of a batch.
        is_packed: What the engine says of itself; padded ones get windows sorted by length.

    Returns:
        The batches.
    """
    lengths = [feature.num_tokens for feature in features]
    plan = plan_batches(lengths, max_tokens=max_tokens, is_packed=is_packed)
    return [pack([features[i] for i in batch], max_tokens=max_tokens) for batch in plan]


def num_operations(architecture: BertConfig, lengths: Sequence[int]) -> int:
    """Count the arithmetic of the encoder, as ARITHMETIC says.

    Args:
        architecture: The model.
        lengths: Tokens of every sequence, without padding.

    Returns:
        Operations, two a multiply-add.
    """
    hidden, inner = architecture.hidden_size, architecture.intermediate_size
    linear = sum(lengths) * (8 * hidden * hidden + 4 * hidden * inner)
    attention = 4 * hidden * sum(length * length for length in lengths)
    return architecture.num_hidden_layers * (linear + attention)


def read_workload(
    path: str | Path,
    tokenizer: Tokenizer,
    config: AnsweringConfig,
    *,
    limit: int,
    seed: int,
    dropped: Dropped | None = None,
    questions_per_context: int | None = None,
    has_split: bool = False,
) -> Workload:
    """Read questions spread evenly over a SQuAD file, and cut them into windows.

    Args:
        path: The file.
        tokenizer: The artifact's.
        config: Windows.
        limit: Questions wanted at most.
        seed: Of the order in which they are asked.
        dropped: As in read_squad.
        questions_per_context: So many questions of every passage, those with fewer left out; 0 for
            all that it has; None for no such rule.
        has_split: Whether to cut windows for models with split layers, too.

    Returns:
        The questions, shuffled: neighbours in the file share a context and so a length. With
        questions_per_context in the file's own order, a passage's questions together.

    Raises:
        InputError: The file or a question in it cannot be used, or no passage has so many.
    """
    everything = read_squad(path, dropped=dropped)
    if questions_per_context is None:
        examples = [everything[index] for index in evenly_spaced(len(everything), limit)]
        random.Random(seed).shuffle(examples)
    else:
        examples = _by_context(path, everything, questions_per_context, limit)
    texts = list({text for example in examples for text in (example.question, example.context)})
    encodings = dict(zip(texts, tokenizer.encode_batch(texts), strict=True))

    def cut(example: SquadExample, *, is_split: bool) -> tuple[Feature, ...]:
        question, context = encodings[example.question], encodings[example.context]
        tokens = tokenizer.pair_tokens
        try:
            found = make_features(0, question, context, config=config, is_split=is_split, **tokens)
        except InputError as error:
            raise type(error)(f"{example.place}: {error}") from None
        return tuple(found)

    return Workload(
        tuple(examples),
        tuple(cut(example, is_split=False) for example in examples),
        tuple(cut(example, is_split=True) for example in examples if has_split),
        questions_per_context is not None,
    )


def _by_context(
    path: str | Path, everything: Sequence[SquadExample], count: int, limit: int
) -> list[SquadExample]:
    groups: dict[str, list[SquadExample]] = {}
    for example in everything:
        groups.setdefault(example.context, []).append(example)
    most = max(map(len, groups.values()), default=0)
    chosen = [group[: count or most] for group in groups.values() if len(group) >= count]
    if not chosen:
        raise InputError(
            f"{path}: no passage has {count} questions, want --questions_per_context at most {most}"
        )
    num_questions = sum(map(len, chosen))
    num_groups = max(1, len(chosen) * limit // max(limit, num_questions))
    return [
        example for index in evenly_spaced(len(chosen), num_groups) for example in chosen[index]
    ]
