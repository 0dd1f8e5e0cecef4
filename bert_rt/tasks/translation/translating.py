"""Translation as a task: a text -> its sentences -> their translations -> TranslatedText."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bert_rt.artifact.checks import check_fields, check_logit, check_string, plain_list, refuse
from bert_rt.artifact.decoder import DecoderEntry
from bert_rt.artifact.manifest import Manifest
from bert_rt.engines.seq2seq.generating import hypotheses_of
from bert_rt.errors import InputError
from bert_rt.generation.search import Hypothesis
from bert_rt.support.seq2seq import LOGITS, cross_names
from bert_rt.tasks.base import CallOptions, SelfTestItem, Task, limits_of
from bert_rt.tasks.limits import WritingLimits
from bert_rt.tasks.session import Session
from bert_rt.tasks.texts import MAX_TEXT_CHARS, check_text, with_place
from bert_rt.tasks.translation.head_spec import HEAD
from bert_rt.tasks.translation.options import TranslateOptions, search_of
from bert_rt.tasks.translation.rows import TranslationRows
from bert_rt.tasks.translation.settings import Translation as TranslationSettings
from bert_rt.tasks.translation.sources import SourceSequence, make_sources
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import PER_SEQUENCE, PER_TOKEN, Outputs, TranslatedSentence, TranslatedText

if TYPE_CHECKING:
    from bert_rt.api import Runtime
    from bert_rt.support.faults import Dropped
    from bert_rt.support.progress import Progress
    from bert_rt.tasks.translation.evaluation import TranslationEvaluation
    from bert_rt.tasks.translation.http import TranslateForm
    from bert_rt.tasks.translation.pairs import PairLayout, SentencePair

__all__ = ["PreparedText", "Translating", "joined"]

_MAX_TOKENS = 2**20


@dataclass(frozen=True, slots=True, eq=False)
class PreparedText:
    """A text that is ready to be translated.

    Attributes:
        text: The text.
        sequences: Its sentences.
        tokenizer: The target's.
    """

    text: str
    sequences: list[SourceSequence]
    tokenizer: Tokenizer


class Span(Protocol):
    """Where a sentence stands in its text."""

    @property
    def start(self) -> int:
        """Its first character."""
        ...

    @property
    def end(self) -> int:
        """One past its last character."""
        ...


class Translating(TranslationSettings, Task[str, PreparedText, TranslatedText]):
    """Writes texts in another language."""

    method = "translate"
    noun = "texts"
    head_spec = HEAD
    options_class = TranslateOptions
    compared = ("target_ids", "logit")

    def check_input(self, item: Any, place: str = "") -> str:
        """Check a text; raises InputError where it is none, or empty or unreadable."""
        try:
            check_text("text", item, max_chars=MAX_TEXT_CHARS)
        except InputError as error:
            raise with_place(error, place) from None
        return str(item)

    def texts(self, item: str) -> list[str]:
        """Return the text."""
        return [item]

    def num_chars(self, item: str) -> int:
        """Return its length."""
        return len(item)

    def prepare(
        self, items: Sequence[str], session: Session, options: CallOptions
    ) -> Iterator[PreparedText]:
        """Cut texts into sentences and tokenize them; raises EmptyInputError."""
        for item in items:
            sources = make_sources(
                item,
                session.tokenizer,
                search_of(options),
                getattr(options, "watch", None),
                max_seq_length=options.limits.max_seq_length,
                split_sentences=getattr(options, "split_sentences", True),
            )
            yield PreparedText(item, sources, session.target_tokenizer)

    def decode(
        self, prepared: PreparedText, outputs: Sequence[Outputs], options: CallOptions
    ) -> TranslatedText:
        """Put the sentences' translations together, with what stands between the sentences."""
        del options
        sentences = []
        for source, output in zip(prepared.sequences, outputs, strict=True):
            best, *others = (
                _sentence(source, found, prepared.tokenizer) for found in hypotheses_of(output)
            )
            sentence = TranslatedSentence(
                best.text, best.start, best.end, best.score, best.token_ids, tuple(others)
            )
            sentences.append(sentence)
        text = joined(prepared.text, sentences, [sentence.text for sentence in sentences])
        return TranslatedText(text, tuple(sentences))

    # What an artifact says.

    def read_limits(self, manifest: Manifest) -> WritingLimits:
        """Return how long sentences and their translations may be."""
        return limits_of(manifest, WritingLimits)

    def read_head(self, manifest: Manifest) -> DecoderEntry:
        """Return the decoder, which says how translations are searched."""
        super().read_head(manifest)
        if manifest.decoder is None:
            refuse("decoder", None, f"a decoder, which {self.name} needs")
        return manifest.decoder

    def check_manifest(self, manifest: Manifest) -> None:
        """Check the limits and the graphs against the decoder, too; see Task."""
        super().check_manifest(manifest)
        decoder, limits = self.read_head(manifest), self.read_limits(manifest)
        if limits.max_target_length > decoder.max_target_length:
            most = decoder.max_target_length
            refuse("limits.max_target_length", limits.max_target_length, f"at most {most}")
        cross = cross_names(decoder.architecture.num_hidden_layers)
        for name, wanted in (
            ("encoder", dict.fromkeys(cross, PER_TOKEN)),
            ("decoder", {LOGITS: PER_SEQUENCE}),
        ):
            got = manifest.graph(name).outputs
            if any(got.get(output) != kind for output, kind in wanted.items()):
                refuse(f"models.{name}.outputs", dict(got), f"{wanted} among them")

    def check_self_test(self, where: str, item: SelfTestItem, manifest: Manifest) -> None:
        """Refuse what is not a text with the tokens of its translation."""
        del manifest
        fields = {"text": check_string, "target_ids": _check_targets, "logit": check_logit}
        check_fields(where, item, fields)

    def self_test_input(self, item: SelfTestItem) -> str:
        """Return the text."""
        return self.check_input(item["text"], "self_test")

    def self_test_result(
        self, prepared: PreparedText, outputs: Sequence[Outputs], options: CallOptions
    ) -> SelfTestItem:
        """Return the text with the tokens of its sentences' translations and their mean score."""
        del options
        found = [hypotheses_of(output) for output in outputs]
        return {
            "text": prepared.text,
            "target_ids": [list(best.token_ids) for best, *_ in found],
            "logit": sum(best.score for best, *_ in found) / len(found),
            # Of the sums of log probabilities, nearly: scores are means over the tokens.
            "lead": min(
                (best.score - second.score) * len(best.token_ids) for best, second, *_ in found
            ),
        }

    # Labelled data, and other forms.

    def read_examples(
        self,
        path: str | Path,
        layout: PairLayout,
        labels: Sequence[str],
        head: Any = None,
        *,
        dropped: Dropped | None = None,
    ) -> list[SentencePair]:
        """Read a file of texts with their translations."""
        del labels, head
        from bert_rt.tasks.translation.pairs import read_pairs

        return read_pairs(path, layout, dropped=dropped)

    def evaluate(
        self,
        runtime: Runtime,
        examples: Sequence[SentencePair],
        *,
        progress: Progress | None = None,
    ) -> TranslationEvaluation:
        """Measure BLEU and chrF."""
        from bert_rt.tasks.translation.evaluation import evaluate_translations

        return evaluate_translations(runtime, examples, progress=progress)

    def http(self) -> TranslateForm:
        """Return how it is asked by HTTP."""
        from bert_rt.tasks.translation.http import TranslateForm  # needs msgspec

        return TranslateForm()

    def rows(self) -> TranslationRows:
        """Return the form of a column of texts, and their translations."""
        return TranslationRows()


def joined(text: str, spans: Sequence[Span], translations: Sequence[str]) -> str:
    """Put translations together with what stands between the sentences in their text.

    Args:
        text: The text.
        spans: The sentences, from the first one on.
        translations: Their translations.

    Returns:
        The translation of the text up to the end of the last of these sentences.
    """
    parts, end = [], 0
    for span, translation in zip(spans, translations, strict=True):
        between = text[end : span.start]
        # Signs that have no token are not translated, and left out.
        parts += [between if not between or between.isspace() else " ", translation]
        end = span.end
    return "".join(parts).strip()


def _sentence(
    source: SourceSequence, found: Hypothesis, tokenizer: Tokenizer
) -> TranslatedSentence:
    text = tokenizer.decode(found.token_ids, skip_special_tokens=True).strip()
    return TranslatedSentence(text, source.start, source.end, found.score, found.token_ids)


def _check_targets(where: str, value: object) -> None:
    for ids in plain_list(where, value, _MAX_TOKENS):
        for token in plain_list(where, ids, _MAX_TOKENS):
            if isinstance(token, bool) or not isinstance(token, int):
                refuse(where, token, "token ids")
