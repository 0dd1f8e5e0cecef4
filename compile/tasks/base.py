"""What of a compile depends on the task, behind one interface; compile.tasks.registry lists them.

data file -> examples -> sequences to calibrate on
float and INT8 on examples -> evaluations -> receipt, gate and report
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bert_rt.api import Runtime
from bert_rt.artifact.artifact import MODEL_NAME, TOKENIZER_NAME
from bert_rt.artifact.decoder import DecoderEntry
from bert_rt.artifact.entries import ModelEntry
from bert_rt.artifact.manifest import Manifest, ManifestFields
from bert_rt.errors import CalibrationError
from bert_rt.model.config import BertConfig
from bert_rt.support.faults import Dropped
from bert_rt.support.progress import Progress, progress
from bert_rt.tasks.base import Evaluation, Limits, SelfTestItem, Task
from bert_rt.tasks.checkpoints import load_model
from bert_rt.tasks.selftest import make_self_test
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import TokenSequence
from compile.graph.fuse import fuse
from compile.graph.graphs import Graphs
from compile.graph.head import GraphHead
from compile.graph.parity import NUM_SHAPES, check_parity
from compile.graph.trace import trace
from compile.int8.drives import SequenceDrive
from compile.int8.quantize import QuantConfig
from compile.int8.recipe import FloatGraph
from compile.judge.gate import Gate, Measure, Verdict
from compile.judge.noninferiority import cluster_ids
from compile.judge.temperature import Confidence, FittedTemperature
from compile.judge.tokens import check_tokenizer
from compile.report.changes import Change

__all__ = ["CompileTask", "Settings", "TunedLimits"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a user sets, whatever the task is; what a task does not have is an error.

    Attributes:
        limits: Fields of the task's limits that were given.
        bars: Bars of the gate that were given, by the names of their flags.
        layout: How data files are laid out: fields of the task's layout that were given.
    """

    limits: Mapping[str, Any] = field(default_factory=dict)
    bars: Mapping[str, float] = field(default_factory=dict)
    layout: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TunedLimits:
    """Limits that were found on examples.

    Attributes:
        name: What was found, for the manifest's provenance.
        limits: The limits with it.
        provenance: How it was found.
    """

    name: str
    limits: Limits
    provenance: Mapping[str, Any]


class CompileTask(ABC):
    """One task's part in a compile. Examples are what its own read returns.

    Attributes:
        task: The task as runtimes know it.
        has_probabilities: Whether scores are probabilities, with a temperature to be found.
        golden_inputs: What the self-test of an artifact is made of.
        golden_lead: How far above the next result one must be to become a self-test item.
        measure: What is measured.
        labels: Names of the logits, where the task has such.
        head: What the logits mean, where the task has several kinds of heads.
        limits: The artifact's limits.
        gate: What INT8 must keep.
        num_token_types: How many the model has.
        has_decoder: Whether its models are encoder-decoders.
    """

    has_decoder: ClassVar[bool] = False
    task: ClassVar[Task[Any, Any, Any]]
    has_probabilities: ClassVar[bool] = True
    golden_inputs: ClassVar[Sequence[Any]]
    golden_lead: ClassVar[float] = 0.0
    measure: Measure
    num_token_types: int = 2

    def __init__(
        self, settings: Settings, *, labels: tuple[str, ...] = (), head: Any = None
    ) -> None:
        """Take what the user sets and what the model says.

        Args:
            settings: What the user sets.
            labels: Names of the logits.
            head: What they mean.

        Raises:
            ConfigError: A setting is out of range, or none of this task's.
        """
        self.labels = labels
        self.head = head
        self.layout = self.task.make_layout(settings.layout)
        self.limits: Limits = self.task.make_limits(settings.limits)
        self.gate = Gate(self.measure, settings.bars)

    @classmethod
    @abstractmethod
    def measures(cls) -> Sequence[Measure]:
        """Return what this task's models may be measured by, for the flags of the bars."""

    @classmethod
    @abstractmethod
    def for_model(cls, loaded: Any, settings: Settings) -> CompileTask:
        """Make the part of a checkpoint; raises ConfigError and UnsupportedOpError."""

    @classmethod
    @abstractmethod
    def for_manifest(cls, manifest: Manifest, settings: Settings) -> CompileTask:
        """Make the part of an artifact, to measure it again; settings has a layout only."""

    # The model.

    @abstractmethod
    def graph_head(self, config: BertConfig) -> GraphHead:
        """Return what the graph has behind the encoder."""

    @classmethod
    def load(cls, directory: Path) -> Any:
        """Load a checkpoint as the task's model; raises CheckpointError."""
        return load_model(directory, cls.task.name)

    def architecture(self, loaded: Any) -> BertConfig:
        """Return the architecture of a loaded model's encoder."""
        config: BertConfig = loaded.config
        return config

    def make_graphs(self, loaded: Any, *, seed: int) -> Graphs:
        """Trace a model, fuse its graphs and compare them with PyTorch.

        Args:
            loaded: What load returned.
            seed: Of the inputs that they are compared on.

        Returns:
            The graphs.

        Raises:
            UnsupportedOpError: The model cannot be traced, or a fusion was lost.
            ParityError: A graph computes something else than the model.
        """
        model = trace(loaded)
        fusions = fuse(model, loaded.config, self.graph_head(loaded.config))
        with progress("compare with PyTorch", total=NUM_SHAPES, unit="shapes") as shown:
            parity = check_parity(model, loaded, seed=seed, progress=shown)
        entry = ModelEntry(file=MODEL_NAME, outputs=self.task.outputs)
        return Graphs({"model": model}, {"model": entry}, fusions, parity)

    def tokenizer_files(self, directory: Path) -> dict[str, Tokenizer]:
        """Read a checkpoint's tokenizers, and check them.

        Args:
            directory: The checkpoint.

        Returns:
            The artifact's file of each; that of the texts that models read comes first.

        Raises:
            CheckpointError: One cannot be read.
            CompileError: What an artifact would have gives other tokens than the checkpoint's.
        """
        tokenizer = Tokenizer.from_directory(directory)
        check_tokenizer(directory, tokenizer)
        return {TOKENIZER_NAME: tokenizer}

    def decoder_entry(self, loaded: Any) -> DecoderEntry | None:
        """Return what the manifest says of the decoder, where the model has one."""
        del loaded
        return None

    def float_graphs(
        self,
        loaded: Any,
        graphs: Graphs,
        examples: Sequence[Any],
        tokenizers: Mapping[str, Tokenizer],
        quant: QuantConfig,
    ) -> dict[str, FloatGraph]:
        """Say what the graphs are calibrated on.

        Args:
            loaded: What load returned.
            graphs: What make_graphs returned.
            examples: Those of the calibration file.
            tokenizers: Of tokenizer_files.
            quant: How many samples to draw, and the seed of the draw.

        Returns:
            The graphs by name, each with its data.

        Raises:
            CalibrationError: There is nothing to calibrate on.
        """
        (tokenizer,) = tokenizers.values()
        sequences = self.draw(examples, tokenizer, num_samples=quant.num_samples, seed=quant.seed)
        drive = SequenceDrive(sequences, tokenizer.pad_id)
        num_heads = loaded.config.num_attention_heads
        return {name: FloatGraph(model, drive, num_heads) for name, model in graphs.models.items()}

    @property
    def head_fields(self) -> Mapping[str, Any]:
        """What the manifest's "head" says."""
        return {}

    def golden_items(self, runtime: Runtime) -> tuple[SelfTestItem, ...]:
        """Record what a compiled model says, with a clear lead, for the manifest's self-test."""
        return make_self_test(
            runtime.session,
            runtime.task,
            self.golden_inputs,
            runtime.options(),
            min_lead=self.golden_lead,
        )

    # Data.

    def read(self, path: Path, dropped: Dropped | None = None) -> list[Any]:
        """Read a data file, checked against the model; raises InputError unless dropped counts."""
        return self.task.read_examples(path, self.layout, self.labels, self.head, dropped=dropped)

    def data_files(self, path: Path) -> Sequence[Path]:
        """Return the files that the name of a data file stands for; raises InputError."""
        return (path,)

    @abstractmethod
    def passage(self, example: Any) -> Hashable:
        """Return what an example's text is known by."""

    @abstractmethod
    def describe_shared(self, mine: Any, other: Any) -> str:
        """Say where two examples of one text stand."""

    @abstractmethod
    def draw(
        self, examples: Sequence[Any], tokenizer: Tokenizer, *, num_samples: int, seed: int
    ) -> Sequence[TokenSequence]:
        """Draw sequences to calibrate on; raises CalibrationError where there are none."""

    def check_disjoint(
        self, calibration: Sequence[Any], evaluation: Sequence[Any], *, field: str
    ) -> None:
        """Refuse to calibrate on what is evaluated: the figures would flatter.

        Args:
            calibration: Examples that something is calibrated on.
            evaluation: Those of the evaluation file.
            field: What the first ones are of, for the message.

        Raises:
            CalibrationError: They share a text.
        """
        count, first = self._shared(calibration, evaluation)
        if count:
            raise CalibrationError(
                f"{field}: shares {count} {self.measure.clusters} with eval_file, want none (or "
                f"--drop_invalid, which leaves them out); the first {first}"
            )

    def without_shared(
        self, calibration: Sequence[Any], evaluation: Sequence[Any], *, field: str
    ) -> list[Any]:
        """Leave out what is evaluated, and say so.

        Args:
            calibration: As in check_disjoint.
            evaluation: As in check_disjoint.
            field: As in check_disjoint.

        Returns:
            The examples of calibration whose texts evaluation does not have.
        """
        count, first = self._shared(calibration, evaluation)
        if not count:
            return list(calibration)
        _log.warning(
            "%s: left out %d %s that eval_file has, too; the first %s",
            *(field, count, self.measure.clusters, first),
        )
        known = {self.passage(example) for example in evaluation}
        return [example for example in calibration if self.passage(example) not in known]

    def _shared(self, calibration: Sequence[Any], evaluation: Sequence[Any]) -> tuple[int, str]:
        """Return how many texts two files share, and where the first one stands."""
        known = {self.passage(example): example for example in reversed(calibration)}
        shared = {
            self.passage(example): example
            for example in reversed(evaluation)
            if self.passage(example) in known
        }
        if not shared:
            return 0, ""
        first, example = next(reversed(shared.items()))
        return len(shared), self.describe_shared(known[first], example)

    # What is found on examples.

    @property
    def tunes_limits(self) -> bool:
        """Whether limits are to be found on examples that are set aside."""
        return False

    def check_held_out(self, examples: Sequence[Any]) -> None:
        """Refuse examples on which the limits cannot be found; raises CalibrationError."""
        del examples

    def tune_limits(
        self, files: Mapping[str, bytes], fields: ManifestFields, examples: Sequence[Any]
    ) -> TunedLimits | None:
        """Find limits on examples that the artifact is not evaluated on; None for as they are."""
        del files, fields, examples
        return None

    @abstractmethod
    def fit_temperature(
        self, runtime: Runtime, examples: Sequence[Any], progress: Progress
    ) -> FittedTemperature:
        """Find the temperature that makes probabilities of a model's scores."""

    # What is measured.

    def evaluate(
        self, runtime: Runtime, examples: Sequence[Any], *, progress: Progress
    ) -> Evaluation:
        """Score a model on all examples."""
        return self.task.evaluate(runtime, examples, progress=progress)

    def clusters(self, examples: Sequence[Any]) -> NDArray[np.intp]:
        """Number what the bootstrap draws: shape (Q,). Here every example by itself."""
        return cluster_ids(range(len(examples)))

    @abstractmethod
    def resample(
        self, evaluations: Sequence[Any], cluster_Q: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Return the gate's metric of every evaluation in every draw: shape (R, evaluations)."""

    @abstractmethod
    def compare(
        self, reference: Any, int8: Any, examples: Sequence[Any]
    ) -> Mapping[str, float | NDArray[np.float64]]:
        """Compare INT8 with float: figures, or a value an example, for mean and interval."""

    @abstractmethod
    def confidence(self, evaluation: Any) -> Confidence | None:
        """Return scores and what of them is right; None where scores are no probabilities."""

    @abstractmethod
    def changes(self, reference: Any, int8: Any, examples: Sequence[Any]) -> list[Change]:
        """List what INT8 says otherwise than float, the largest loss first."""

    def judge(self, reference: Any, int8: Any, examples: Sequence[Any]) -> Verdict:
        """Tell whether INT8 keeps what is wanted, by what was measured alone."""
        metric = self.measure.metric
        ceilings = self.measure.ceilings
        compared = self.compare(reference, int8, examples) if ceilings else {}
        figures = reference.metrics[metric], int8.metrics[metric], compared
        verdict = self.gate.judge(*figures)
        if verdict.passes:
            return verdict
        drawn_R2 = self.resample([reference, int8], self.clusters(examples))
        return self.gate.judge(*figures, loss_error=float((drawn_R2[:, 0] - drawn_R2[:, 1]).std()))
