"""The limits of tasks: how texts become sequences, and results are picked.

Those of windows stand beside those of single sequences, since version 1 of the artifact format gave
them to every task.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bert_rt.errors import ConfigError
from bert_rt.model.config import check_float, check_int

__all__ = [
    "OPTIONAL",
    "AnsweringConfig",
    "SequenceLimits",
    "SummaryConfig",
    "WindowLimits",
    "WritingLimits",
]

# In the metadata of a field that a manifest may leave out: then its default holds.
OPTIONAL = "optional"


@dataclass(frozen=True, kw_only=True)
class AnsweringConfig:
    """How a passage is cut into windows and how spans are read from the logits.

    The names and defaults are those of BERT's SQuAD scripts.

    Attributes:
        max_seq_length: Longest window in tokens, question and special tokens included.
        doc_stride: Context tokens that neighbouring windows share (the overlap, as in the
            Hugging Face scripts; the step of a window is its context length minus doc_stride).
        max_query_length: Question tokens beyond this many are cut off.
        n_best_size: Candidate spans kept per question.
        max_answer_length: Longest answer in tokens.
        null_score_diff_threshold: With version_2_with_negative, "no answer" wins where its score
            minus the best span's is above this.
        version_2_with_negative: Whether "no answer" is an admissible answer (SQuAD 2.0).
    """

    max_seq_length: int = 384
    doc_stride: int = 128
    max_query_length: int = 64
    n_best_size: int = 20
    max_answer_length: int = 30
    null_score_diff_threshold: float = 0.0
    version_2_with_negative: bool = False

    def __post_init__(self) -> None:
        """Check every field, and that every question leaves room for new context in a window.

        Raises:
            ConfigError: A field is out of range, or doc_stride leaves no room to move.
        """
        check_int("AnsweringConfig", "max_seq_length", self.max_seq_length, 8, 2**16)
        check_int("AnsweringConfig", "doc_stride", self.doc_stride, 0, 2**16)
        check_int("AnsweringConfig", "max_query_length", self.max_query_length, 1, 2**16)
        check_int("AnsweringConfig", "n_best_size", self.n_best_size, 1, 10_000)
        check_int("AnsweringConfig", "max_answer_length", self.max_answer_length, 1, 2**16)
        threshold = self.null_score_diff_threshold
        check_float("AnsweringConfig", "null_score_diff_threshold", threshold, -1e6, 1e6)
        if not isinstance(self.version_2_with_negative, bool):
            raise ConfigError(
                "AnsweringConfig.version_2_with_negative: got "
                f"{self.version_2_with_negative!r}, want true or false"
            )
        room = self.max_seq_length - self.max_query_length - 3
        if room <= self.doc_stride:
            raise ConfigError(
                f"AnsweringConfig.doc_stride: got {self.doc_stride}, want less than {room} "
                f"(max_seq_length {self.max_seq_length} - max_query_length "
                f"{self.max_query_length} - 3 special tokens), else windows cannot move"
            )


@dataclass(frozen=True, kw_only=True)
class SequenceLimits:
    """How long the sequences of a task without windows may be.

    Attributes:
        max_seq_length: Most tokens of a sequence, special tokens included.
    """

    max_seq_length: int = 384

    def __post_init__(self) -> None:
        """Check the field.

        Raises:
            ConfigError: It is out of range.
        """
        check_int("SequenceLimits", "max_seq_length", self.max_seq_length, 8, 2**16)


@dataclass(frozen=True, kw_only=True)
class WindowLimits:
    """How a long text is cut into windows, for tasks that read all of it.

    Attributes:
        max_seq_length: Longest window in tokens, special tokens included.
        doc_stride: Tokens that neighbouring windows share.
    """

    max_seq_length: int = 384
    doc_stride: int = 128

    def __post_init__(self) -> None:
        """Check both fields.

        Raises:
            ConfigError: A field is out of range, or doc_stride leaves no room to move.
        """
        check_int("WindowLimits", "max_seq_length", self.max_seq_length, 8, 2**16)
        check_int("WindowLimits", "doc_stride", self.doc_stride, 0, 2**16)
        room = self.max_seq_length - 2
        if room <= self.doc_stride:
            raise ConfigError(
                f"WindowLimits.doc_stride: got {self.doc_stride}, want less than {room} "
                f"(max_seq_length {self.max_seq_length} - 2 special tokens), else windows cannot "
                "move"
            )


@dataclass(frozen=True, kw_only=True)
class SummaryConfig:
    """How a document is cut into windows of sentences, and sentences are picked.

    Attributes:
        max_seq_length: Longest window in tokens, special tokens included.
        doc_stride: Tokens that neighbouring windows share at most, in whole sentences.
        max_sentence_length: Tokens of a sentence beyond this many are not read.
        max_sentences: Sentences of a summary, where a call does not say.
        max_windows: Windows that are read; sentences behind the last of them are not, and are in no
            summary. 0 for all. 1 is what BertSum does: it reads the beginning of a document.
    """

    max_seq_length: int = 384
    doc_stride: int = 128
    max_sentence_length: int = 128
    max_sentences: int = 3
    # Artifacts from before it have none, and all their windows are read.
    max_windows: int = field(default=0, metadata={OPTIONAL: True})

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: A field is out of range, or no sentence fits into a window.
        """
        check_int("SummaryConfig", "max_seq_length", self.max_seq_length, 8, 2**16)
        check_int("SummaryConfig", "doc_stride", self.doc_stride, 0, 2**16)
        check_int("SummaryConfig", "max_sentence_length", self.max_sentence_length, 1, 2**16)
        check_int("SummaryConfig", "max_sentences", self.max_sentences, 1, 10_000)
        check_int("SummaryConfig", "max_windows", self.max_windows, 0, 2**16)
        for name in ("doc_stride", "max_sentence_length"):
            value, room = getattr(self, name), self.max_seq_length - 2
            if value > room:
                raise ConfigError(
                    f"SummaryConfig.{name}: got {value}, want at most {room} (max_seq_length "
                    f"{self.max_seq_length} - 2 special tokens)"
                )


@dataclass(frozen=True, kw_only=True)
class WritingLimits:
    """How long texts may be, and those that a model writes for them.

    Attributes:
        max_seq_length: Most tokens of a text, special tokens included.
        max_target_length: Most tokens of a text that is written, special tokens included.
    """

    max_seq_length: int = 128
    max_target_length: int = 128

    def __post_init__(self) -> None:
        """Check both fields.

        Raises:
            ConfigError: A field is out of range.
        """
        for name in ("max_seq_length", "max_target_length"):
            check_int("WritingLimits", name, getattr(self, name), 8, 2**16)
