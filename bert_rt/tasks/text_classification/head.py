"""What the logits of a text classifier mean: one class, several labels, or a number.

A checkpoint says it in config.json (problem_type, num_labels), an artifact in its manifest (head).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_rt.errors import ConfigError
from bert_rt.model.labels import problem_type

__all__ = [
    "FUNCTIONS",
    "MULTI_LABEL",
    "REGRESSION",
    "SINGLE_LABEL",
    "ClassifierHead",
    "apply_function",
    "function_of_config",
    "head_of_config",
]

SINGLE_LABEL = "single_label_classification"
MULTI_LABEL = "multi_label_classification"
REGRESSION = "regression"
FUNCTIONS = ("softmax", "sigmoid", "none")
# What may make scores of each kind's logits.
_ALLOWED = {SINGLE_LABEL: ("softmax",), MULTI_LABEL: ("sigmoid",), REGRESSION: ("none", "sigmoid")}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierHead:
    """What the logits mean, in the terms of Transformers.

    Attributes:
        problem_type: "single_label_classification" (one class a text),
            "multi_label_classification" (each label by itself) or "regression" (one number).
        function_to_apply: What makes scores of logits: "softmax", "sigmoid" or "none".
    """

    problem_type: str = SINGLE_LABEL
    function_to_apply: str = "softmax"

    def __post_init__(self) -> None:
        """Check both fields.

        Raises:
            ConfigError: A value is unknown, or the two do not go together.
        """
        allowed = _ALLOWED.get(self.problem_type)
        if allowed is None:
            raise ConfigError(
                f"problem_type: got {self.problem_type!r}, want one of {', '.join(_ALLOWED)}"
            )
        if self.function_to_apply not in allowed:
            raise ConfigError(
                f"function_to_apply: got {self.function_to_apply!r}, want "
                f"{' or '.join(map(repr, allowed))} for {self.problem_type}"
            )

    def to_manifest(self) -> dict[str, str]:
        """Return the manifest's "head": empty for one class a text, as artifacts always were."""
        return {} if self == ClassifierHead() else asdict(self)

    def check_labels(self, labels: Sequence[str]) -> None:
        """Refuse labels that such a head cannot have.

        Args:
            labels: Names of the logits.

        Raises:
            ConfigError: There are none, or more than the one that a regression has.
        """
        if not labels:
            raise ConfigError(f"labels: got none, want at least one for {self.problem_type}")
        if self.problem_type == REGRESSION and len(labels) != 1:
            raise ConfigError(
                f"labels: got {len(labels)} for {self.problem_type}, want exactly one"
            )


def head_of_config(raw_config: Mapping[str, Any], num_labels: int) -> ClassifierHead:
    """Tell the kind of a checkpoint's head, as Transformers 4.57 does.

    Args:
        raw_config: All of config.json.
        num_labels: Number of logits.

    Returns:
        What problem_type says; without it one logit is a regression, and several are classes.

    Raises:
        CheckpointError: problem_type is none that there is.
        ConfigError: It does not go with the number of logits.
    """
    kind = problem_type(raw_config) or (REGRESSION if num_labels == 1 else SINGLE_LABEL)
    function = function_of_config(raw_config, num_labels)
    return ClassifierHead(problem_type=kind, function_to_apply=function)


def function_of_config(raw_config: Mapping[str, Any], num_labels: int) -> str:
    """Tell what makes scores of a checkpoint's logits, as the pipeline of Transformers 4.57 does.

    Args:
        raw_config: All of config.json.
        num_labels: Number of logits.

    Returns:
        "none" where problem_type is "regression", "sigmoid" for several labels and for a single
        logit (rerankers), else "softmax".

    Raises:
        CheckpointError: problem_type is none that there is.
    """
    kind = problem_type(raw_config)
    if kind == REGRESSION:
        return "none"
    return "sigmoid" if kind == MULTI_LABEL or num_labels == 1 else "softmax"


def apply_function(function: str, logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make scores of logits.

    Args:
        function: One of FUNCTIONS.
        logits: Shape (..., C), float64.

    Returns:
        The same shape, float64.
    """
    if function == "none":
        return logits
    if function == "sigmoid":
        # As 1 / (1 + exp(-x)), without its overflow.
        return 0.5 * (1.0 + np.tanh(0.5 * logits))
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scores: NDArray[np.float64] = weights / weights.sum(axis=-1, keepdims=True)
    return scores
