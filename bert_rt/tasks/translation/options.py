"""What a call to translate asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from bert_rt.artifact.decoder import DecoderEntry
from bert_rt.errors import InputError
from bert_rt.generation.config import GenerationConfig
from bert_rt.tasks.base import CallOptions

__all__ = ["SEARCH_FIELDS", "TranslateOptions", "search_of"]

SEARCH_FIELDS = (
    "num_beams",
    "length_penalty",
    "early_stopping",
    "no_repeat_ngram_size",
    "repetition_penalty",
    "max_new_tokens",
    "min_new_tokens",
)
_TOP_K, _NUM_BEAMS = "top_k", "num_beams"


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslateOptions(CallOptions):
    """How translations are searched; None leaves a field as the artifact has it.

    Attributes:
        num_beams: Partial translations that the search keeps; 1 is greedy search.
        length_penalty: Above 0 longer translations gain; see GenerationConfig.
        early_stopping: When a search ends; see GenerationConfig.
        no_repeat_ngram_size: No so many tokens in a row stand twice; 0 for no such rule.
        repetition_penalty: Above 1 makes tokens that stand in the translation less likely.
        max_new_tokens: Most tokens of a sentence's translation.
        min_new_tokens: Least tokens of a sentence's translation.
        split_sentences: Whether a text is cut into its sentences; else it is translated as one.
        watch: Called with a sentence's number, and the tokens of its translation that are sure, as
            they come; by the thread that computes. None for nobody.
    """

    num_beams: int | None = None
    length_penalty: float | None = None
    early_stopping: bool | Literal["never"] | None = None
    no_repeat_ngram_size: int | None = None
    repetition_penalty: float | None = None
    max_new_tokens: int | None = None
    min_new_tokens: int | None = None
    split_sentences: bool = True
    watch: Callable[[int, tuple[int, ...]], None] | None = None

    def __post_init__(self) -> None:
        """Check all fields together.

        Raises:
            InputError: A field is out of range, or two do not go together.
        """
        if not isinstance(self.split_sentences, bool):
            raise InputError(f"split_sentences: got {self.split_sentences!r}, want True or False")
        search_of(self)


def search_of(options: CallOptions) -> GenerationConfig:
    """Return how a call's translations are searched.

    Args:
        options: TranslateOptions; or CallOptions, which stand for the self-test: the artifact's
            own search, with the second best translation, to see how far the best one leads.

    Returns:
        The search.

    Raises:
        InputError: A field is out of range.
    """
    decoder: DecoderEntry = options.head
    base = decoder.generation
    if not isinstance(options, TranslateOptions):
        beams: dict[str, Any] = {_NUM_BEAMS: max(2, base.num_beams), "num_return_sequences": 2}
        return base.updated(beams).limited(options.limits.max_target_length)
    given = {name: getattr(options, name) for name in SEARCH_FIELDS}
    given = {name: value for name, value in given.items() if value is not None}
    num_beams = given.get(_NUM_BEAMS, base.num_beams)
    if isinstance(num_beams, int) and options.top_k > num_beams >= 1:
        raise InputError(
            f"{_TOP_K}: got {options.top_k}, want at most as many as {_NUM_BEAMS} ({num_beams})"
        )
    most = options.limits.max_target_length
    room = given.get("max_new_tokens", 0)
    if isinstance(room, int) and room >= most:
        raise InputError(
            f"max_new_tokens: got {room}, want at most {most - 1}, which the artifact's "
            "max_target_length leaves beside the start token"
        )
    return base.updated({**given, "num_return_sequences": options.top_k}).limited(most)
