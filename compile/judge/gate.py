"""The accuracy gate: a compiled model that lost too much is not written.

Float and INT8 compute all examples of the evaluation file. Every engine must keep the wanted part
of float's figure, and the loss must be shown to be small: the lower end of the 95 % interval of
INT8's figure minus float's has to lie above minus the largest loss (a test of non-inferiority).
Which figure that is, and what else must not grow too large, a task says by its Measure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_rt.errors import ConfigError, ParityError

__all__ = ["Gate", "Measure", "Verdict", "worst_layers"]

_MAX_NAMED_LAYERS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What a task measures, what it is called, and the bars of its gate.

    Attributes:
        metrics: Fields of a receipt's scores to their names for people, those of the task's own
            evaluation; the first one is the gate's, the greater the better, in percent.
        comparisons: Fields of INT8's scores that compare it with float, to their names.
        examples: What the rows of a data file are called, such as "questions".
        clusters: What the bootstrap draws, such as "passages".
        min_ratio: Least INT8 over float of the gate's metric, where the user does not say.
        max_loss: What the interval of INT8 minus float must stay above minus of, likewise.
        ceilings: Comparisons that must not be above a bound, to that bound, likewise.
        tolerance: How far another machine's instruction set may move the gate's metric.
        changes: Columns of the report's table of changed results: the example, float's result, its
            score, INT8's result, its score.
        digits: Decimals that a field is shown with, where that is not two.
    """

    metrics: Mapping[str, str]
    comparisons: Mapping[str, str]
    examples: str
    clusters: str
    min_ratio: float
    max_loss: float
    tolerance: float
    changes: tuple[str, str, str, str, str]
    ceilings: Mapping[str, float] = field(default_factory=dict)
    digits: Mapping[str, int] = field(default_factory=dict)

    @property
    def metric(self) -> str:
        """The field that the gate looks at."""
        return next(iter(self.metrics))

    @property
    def title(self) -> str:
        """The gate's metric for people."""
        return self.metrics[self.metric]

    @property
    def bars(self) -> dict[str, float]:
        """The bars by the names of their flags, as they are where the user does not say."""
        return {
            f"min_{self.metric}_ratio": self.min_ratio,
            f"max_{self.metric}_loss": self.max_loss,
            **{f"max_{name}": bound for name, bound in self.ceilings.items()},
        }

    def show(self, name: str, value: float) -> str:
        """Write a figure with its decimals."""
        return f"{value:.{self.digits.get(name, 2)}f}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an INT8 model is good enough.

    Attributes:
        passes: Whether it keeps what is wanted.
        summary: What was measured and what is wanted, for messages and the manifest.
        is_near: Whether the mean of the examples and a standard error are together above a ceiling:
            other examples may be above it by themselves.
        may_pass: Whether it passes, or would with a standard error less of loss: other examples may
            show that it keeps what is wanted.
    """

    passes: bool
    summary: str
    is_near: bool = False
    may_pass: bool = False


class Gate:
    """What an INT8 model must keep.

    Attributes:
        measure: What is measured.
        bars: The bars by the names of their flags.
    """

    def __init__(self, measure: Measure, given: Mapping[str, float] | None = None) -> None:
        """Take the measure's bars, and those that a user gave in their place.

        Args:
            measure: What is measured.
            given: Bars by the names of their flags.

        Raises:
            ConfigError: A ratio is not within [0, 1], another bar not within (0, 100], or the
                measure has no bar of a name.
        """
        self.measure = measure
        self.bars = {**measure.bars, **(given or {})}
        for name, value in self.bars.items():
            if name not in measure.bars:
                raise ConfigError(
                    f"{name}: got {value}, but {measure.title} is what this model is held to; its "
                    f"bars are {', '.join(measure.bars)}"
                )
            if name.startswith("min_") and not 0.0 <= value <= 1.0:
                raise ConfigError(f"{name}: got {value}, want a number from 0 to 1")
            if name.startswith("max_") and not 0.0 < value <= 100.0:
                raise ConfigError(f"{name}: got {value}, want a number above 0, at most 100")

    @property
    def min_ratio(self) -> float:
        """Least INT8 over float of the gate's metric."""
        return self.bars[f"min_{self.measure.metric}_ratio"]

    @property
    def max_loss(self) -> float:
        """Most that INT8 may lose of the gate's metric."""
        return self.bars[f"max_{self.measure.metric}_loss"]

    def check(self, receipt: Mapping[str, Any], errors: Mapping[str, float]) -> None:
        """Compare a receipt with what is wanted.

        Args:
            receipt: What compile.judge.receipt.make_receipt returned, with "int8".
            errors: Names of the quantized layers to their relative output errors, to name those
                that cost most.

        Raises:
            ParityError: An engine is under a bar; the message names engine, figures and the
                layers with the largest errors.
        """
        measure = self.measure
        for engine, scores in receipt["int8"].items():
            failure = self._failure(receipt, scores)
            if failure is None:
                continue
            bar, reason = failure
            raise ParityError(
                f"{bar}: INT8 on {engine} has {measure.title} {scores[measure.metric]:.2f}, float "
                f"{receipt['float'][measure.metric]:.2f}; {reason}. Nothing was written. Layers "
                f"with the largest relative output error: {worst_layers(errors)}"
            )

    def judge(
        self,
        wanted: float,
        got: float,
        comparisons: Mapping[str, float | NDArray[np.float64]],
        *,
        loss_error: float = 0.0,
    ) -> Verdict:
        """Compare what was measured with what is wanted, without an interval.

        Args:
            wanted: Float's figure.
            got: INT8's.
            comparisons: INT8 compared with float, by the names of the measure's ceilings: a figure,
                or a value an example.
            loss_error: Standard error of the loss, wanted - got.

        Returns:
            The verdict; NaN never passes.
        """
        measure = self.measure
        passes, may_pass = (
            got + error >= self._least(wanted) and wanted - got - error <= self.max_loss
            for error in (0.0, loss_error)
        )
        summary = (
            f"got {measure.title} {got:.2f}, float has {wanted:.2f}; want a loss of at most "
            f"{self.max_loss} and a ratio of at least {self.min_ratio}"
        )
        is_near = False
        for name in measure.ceilings:
            bound, values = self.bars[f"max_{name}"], np.atleast_1d(comparisons[name])
            mean, error = float(values.mean()), float(values.std()) / math.sqrt(values.size)
            passes, may_pass = passes and mean <= bound, may_pass and mean - error <= bound
            is_near = is_near or mean + error > bound
            summary += f"; {measure.comparisons[name]} {mean:.4f}, want at most {bound}"
        return Verdict(passes, summary, is_near, may_pass)

    def _least(self, wanted: float) -> float:
        # A correlation may be negative, where a part of it would be more than the whole.
        return self.min_ratio * wanted if wanted >= 0 else (2 - self.min_ratio) * wanted

    def _failure(
        self, receipt: Mapping[str, Any], scores: Mapping[str, Any]
    ) -> tuple[str, str] | None:
        """Return the name of the bar that one engine is under, and how; None where it passes."""
        measure, metric = self.measure, self.measure.metric
        wanted, got = receipt["float"][metric], scores[metric]
        # All are written so that NaN fails, too.
        if not got >= self._least(wanted):
            ratio = got / wanted if wanted else 0.0
            return (
                f"min_{metric}_ratio",
                f"got a ratio of {ratio:.4f}, want at least {self.min_ratio}",
            )
        low, high = scores[f"{metric}_difference_interval"]
        if not low > -self.max_loss:
            clusters = receipt["intervals"]["num_clusters"]
            return f"max_{metric}_loss", (
                f"got a difference between {low:.2f} and {high:.2f} with 95 % confidence, want "
                f"more than {-self.max_loss}; more than the {clusters} {measure.clusters} of this "
                "evaluation file would narrow it"
            )
        for name in measure.ceilings:
            bound = self.bars[f"max_{name}"]
            if not scores[name] <= bound:
                return f"max_{name}", (
                    f"got {measure.comparisons[name]} {scores[name]:.4f}, want at most {bound}"
                )
        return None


def worst_layers(errors: Mapping[str, float]) -> str:
    """Name the layers that quantization moved most, with their errors.

    Args:
        errors: Names of the quantized layers to their relative output errors.

    Returns:
        At most five of them, for a message.
    """
    worst = sorted(errors.items(), key=lambda item: -item[1])[:_MAX_NAMED_LAYERS]
    return ", ".join(f"{name} ({error:.2%})" for name, error in worst)
