"""What a model has behind its encoder, as reading, writing and running it need to know.

Each task gives the specification of its own head (bert_rt.tasks); the two heads that are no task's
are below. No PyTorch here: a head's module is imported when a model of it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bert_rt.errors import ConfigError
from bert_rt.model.architectures import ARCHITECTURES

if TYPE_CHECKING:
    from bert_rt.model.config import BertConfig
    from bert_rt.model.encoder import TaskModel

__all__ = ["ENCODER", "PRETRAINING", "HeadSpec"]


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadSpec:
    """A kind of head, for every architecture.

    Attributes:
        name: The task that it is for, as on command lines and in manifests.
        class_suffixes: Endings of the names of its classes in Transformers ("ForMaskedLM"); the
            first one is written.
        make: Imports its module and makes one, with fresh weights, of the architecture and the
            number of labels (which counts only with has_labels).
        model_types: Architectures that have such a head; None for all of them.
        outputs: What its module returns: names, in that order, and their kinds, PER_TOKEN or
            PER_SEQUENCE. Empty for a model that is not compiled.
        has_labels: Whether config.json names its outputs (num_labels, id2label).
        is_pooled: Whether it reads the first token through the pooler. Other architectures than
            BERT have that layer within the head (Architecture.classifier_renames).
        num_token_types: How many token types the model must have at least.
    """

    name: str
    class_suffixes: tuple[str, ...]
    make: Callable[[BertConfig, int], TaskModel]
    model_types: tuple[str, ...] | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    has_labels: bool = False
    is_pooled: bool = False
    num_token_types: int = 1

    def fits(self, model_type: str) -> bool:
        """Tell whether an architecture has such a head."""
        return self.model_types is None or model_type in self.model_types

    def check_fits(self, model_type: object) -> None:
        """Refuse an architecture that has no such head.

        Args:
            model_type: The architecture, as config.json names it; any value.

        Raises:
            ConfigError: There is no such architecture, or it has no such head.
        """
        known = [name for name in ARCHITECTURES if self.fits(name)]
        if model_type not in known:
            raise ConfigError(
                f"model_type: got {model_type!r}, want an architecture that has a model of "
                f"{self.name}: {', '.join(known)}"
            )


def _encoder(config: BertConfig, num_labels: int) -> TaskModel:
    from bert_rt.model.encoder import BertModel

    del num_labels
    return BertModel(config, add_pooling_layer=config.architecture.has_pooler)


def _pretraining(config: BertConfig, num_labels: int) -> TaskModel:
    from bert_rt.model.heads import BertForPreTraining

    del num_labels
    return BertForPreTraining(config)


ENCODER = HeadSpec(name="encoder", class_suffixes=("Model",), make=_encoder)
PRETRAINING = HeadSpec(
    name="pretraining",
    class_suffixes=("ForPreTraining", "ForMaskedLM"),
    make=_pretraining,
    model_types=("bert",),
)
