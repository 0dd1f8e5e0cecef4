"""How well and how fast a Runtime translates a set of texts.

Shapes: Q texts, S statistics of a text.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bert_rt.errors import InputError
from bert_rt.support.progress import Progress
from bert_rt.tasks.translation.pairs import SentencePair
from bert_rt.tasks.translation.scores import TranslationScores, score_translations
from bert_rt.tasks.translation.translating import Translating
from bert_rt.types import TranslatedText

if TYPE_CHECKING:
    from bert_rt.api import Runtime

__all__ = ["TranslationEvaluation", "evaluate_translations"]

_TASK = Translating()


@dataclass(frozen=True, eq=False)
class TranslationEvaluation:
    """What a Runtime made of texts; Q of them in the examples' order.

    Attributes:
        examples: The texts with their references.
        translations: What it wrote.
        texts_per_second: From texts to translations, tokenization included.
        num_beams: Beams of the search.
    """

    examples: Sequence[SentencePair]
    translations: tuple[TranslatedText, ...]
    texts_per_second: float
    num_beams: int

    @cached_property
    def scores(self) -> TranslationScores:
        """BLEU and chrF with their signatures."""
        given = [each.text for each in self.translations]
        return score_translations(given, [example.target for example in self.examples])

    @property
    def metrics(self) -> dict[str, float]:
        """BLEU, on which gates look, and chrF."""
        return {"bleu": self.scores.bleu, "chrf": self.scores.chrf}

    @property
    def total(self) -> int:
        """Number of texts, Q."""
        return len(self.translations)

    @property
    def predictions(self) -> dict[str, str]:
        """The translations by line from 0."""
        return {str(row): each.text for row, each in enumerate(self.translations)}

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name, for JSON."""
        return {
            **self.metrics,
            "bleu_signature": self.scores.bleu_signature,
            "chrf_signature": self.scores.chrf_signature,
            "num_beams": self.num_beams,
            "total": self.total,
            "texts_per_second": self.texts_per_second,
        }

    def describe(self) -> str:
        """Return the figures as lines of text."""
        scores = self.scores
        search = "greedy search" if self.num_beams == 1 else f"{self.num_beams} beams"
        return (
            f"BLEU {scores.bleu:.2f} ({scores.bleu_signature}), chrF {scores.chrf:.2f} "
            f"({scores.chrf_signature}) over {self.total} texts, {search}\n"
            f"{self.texts_per_second:.1f} texts/s, text to translation,"
        )


def evaluate_translations(
    runtime: Runtime, examples: Sequence[SentencePair], *, progress: Progress | None = None
) -> TranslationEvaluation:
    """Translate all texts and compare with their references.

    Args:
        runtime: What translates; its artifact says how translations are searched.
        examples: At least one pair.
        progress: Advanced at every text.

    Returns:
        Scores, translations and speed.

    Raises:
        InputError: There are no examples, or a text cannot be translated.
        EngineError: The engine failed.
    """
    if not examples:
        raise InputError("examples: got 0 texts, want at least 1")
    translations: list[TranslatedText] = []
    # As in training, and as test sets are scored: a line is one text, however many sentences.
    options = runtime.options(_TASK, split_sentences=False)
    start_s = time.perf_counter()
    sources = (example.source for example in examples)
    for translation in runtime.session.stream(_TASK, sources, options):
        translations.append(translation)
        if progress is not None:
            progress.advance()
    seconds = time.perf_counter() - start_s
    return TranslationEvaluation(
        examples,
        tuple(translations),
        len(examples) / seconds,
        options.head.generation.num_beams,
    )
