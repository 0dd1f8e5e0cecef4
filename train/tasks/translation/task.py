"""Training for translation: its flags, and what they make."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bert_rt.model.checkpoint import checkpoint_hash
from bert_rt.model.config import check_float, check_int
from bert_rt.support.flags import flag
from bert_rt.tasks.translation.pairs import PairLayout, pair_files
from bert_rt.tasks.translation.settings import Translation as TranslationSettings
from train.recipes import Recipe, multi30k
from train.sizes import new_config
from train.tasks.base import Setup, TrainTask

if TYPE_CHECKING:
    from torch import nn

    from train.tasks.base import TaskObjective

__all__ = ["Options", "Translation"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a model learns to translate.

    Attributes:
        batch_tokens: Most tokens of a micro-batch, those of texts and translations together.
        label_smoothing: Share of the probability that is spread over all tokens.
        decoder_layers: Layers of a new decoder.
        decoder_hidden_size: Width of a new decoder; None for the encoder's.
        source_vocab_size: Most tokens of a new vocabulary for texts.
        target_vocab_size: Most tokens of a new vocabulary for translations.
        num_beams: Beams of the search that translates held-out texts; 1 is greedy. The model
            keeps it, and what follows, as its way of searching.
        length_penalty: What a translation's length is raised to before its score is divided by it:
            above 1 for longer translations, below for shorter ones.
    """

    batch_tokens: int = field(
        default=1024, metadata=flag(help="of a micro-batch, both sides together")
    )
    label_smoothing: float = field(
        default=0.1, metadata=flag(metavar="R", help="share of the probability")
    )
    decoder_layers: int = field(default=3, metadata=flag(help="of a new decoder"))
    decoder_hidden_size: int | None = field(
        default=None, metadata=flag(type=int, help="of a new decoder; left out: the encoder's")
    )
    source_vocab_size: int = field(default=6000, metadata=flag(help="of a new vocabulary"))
    target_vocab_size: int = field(default=6000, metadata=flag(help="of a new vocabulary"))
    num_beams: int = field(default=5, metadata=flag(help="for the scores of held-out texts"))
    length_penalty: float = field(
        default=1.0, metadata=flag(metavar="P", help="above 1 for longer translations")
    )

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: A field is out of range.
        """
        for name, low, high in (
            ("batch_tokens", 16, 2**24),
            ("decoder_layers", 1, 1024),
            ("source_vocab_size", 16, 2**24),
            ("target_vocab_size", 16, 2**24),
            ("num_beams", 1, 1000),
        ):
            check_int("Options", name, getattr(self, name), low, high)
        if self.decoder_hidden_size is not None:
            check_int("Options", "decoder_hidden_size", self.decoder_hidden_size, 1, 2**16)
        check_float("Options", "label_smoothing", self.label_smoothing, 0.0, 0.9)
        check_float("Options", "length_penalty", self.length_penalty, -100.0, 100.0)


class Translation(TrainTask):
    """Texts of one language with their translations."""

    task = TranslationSettings()
    options_class = Options
    free_options = frozenset({"num_beams", "length_penalty"})

    def default_recipe(self) -> Recipe:
        """Return that of Multi30k."""
        return multi30k()

    def make_limits(self, given: Mapping[str, Any], recipe: Recipe) -> Any:
        """Make the limits of a run; where nobody says, translations may be as long as texts."""
        length = given.get("max_seq_length", recipe.max_seq_length)
        return self.task.make_limits(
            {"max_seq_length": length, "max_target_length": length, **given}
        )

    def start_hash(self, model_dir: Path) -> str:
        """Return the SHA-256 of the weights, or of the architecture where all is new."""
        if model_dir.is_dir():
            return checkpoint_hash(model_dir)
        config, _ = new_config(str(model_dir))
        return hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode()).hexdigest()

    def data_files(self, path: Path, layout: PairLayout) -> Sequence[Path]:
        """Return a file of pairs, or the file of each language."""
        return pair_files(path, layout)

    def make(self, setup: Setup) -> tuple[nn.Module, TaskObjective]:
        """Load or make a model, and its pairs."""
        from train.tasks.translation.objective import make_translating

        return make_translating(setup)
