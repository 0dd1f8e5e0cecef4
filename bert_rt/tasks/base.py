"""What a task is: all that question answering and the other tasks differ in, behind one interface.

    caller's item -> check_input -> prepare (TokenSequences) -> engine -> decode -> result

A task is one object without state. What an artifact adds (limits, labels, temperature) and what a
call asks for come as CallOptions. bert_rt.tasks.registry lists the tasks.
"""

from __future__ import annotations

import dataclasses
import math
import threading
from abc import abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from bert_rt.artifact.checks import check_token_ids, refuse
from bert_rt.artifact.manifest import Manifest
from bert_rt.errors import ArtifactFormatError, ConfigError
from bert_rt.model.config import BertConfig, from_dict
from bert_rt.model.head import HeadSpec
from bert_rt.scheduling.requests import Asked
from bert_rt.tasks.forms.rows import AnyRows, RowForm
from bert_rt.tasks.limits import OPTIONAL
from bert_rt.tasks.settings import TaskSettings
from bert_rt.types import Outputs, TokenSequence

if TYPE_CHECKING:
    from bert_rt.api import Runtime
    from bert_rt.support.faults import Dropped
    from bert_rt.support.progress import Progress
    from bert_rt.tasks.forms.http import HttpForm
    from bert_rt.tasks.session import Session

__all__ = ["CallOptions", "Evaluation", "Limits", "Prepared", "SelfTestItem", "Task", "limits_of"]

# Of English in BERT's vocabulary, rounded down.
_CHARS_A_TOKEN = 4

ItemT = TypeVar("ItemT")
PreparedT = TypeVar("PreparedT", bound="Prepared")
ResultT = TypeVar("ResultT")
LimitsT = TypeVar("LimitsT", bound="Limits")


class Limits(Protocol):
    """The limits that a task's artifacts have: a frozen dataclass of the task."""

    @property
    def max_seq_length(self) -> int:
        """Most tokens of a sequence, special tokens included."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """What one call asks for beside its inputs; tasks add fields of their own.

    Attributes:
        limits: The artifact's limits, or those that the caller gave in their place.
        labels: The artifact's class names.
        head: What the artifact's logits mean, where the task has several kinds of heads.
        top_k: Results wanted of every input, at least 1.
        deadline_s: When to give up, in seconds of time.monotonic.
        cancelled: Give up when this is set.
        priority: 1 is the highest, 9 the lowest; 0 stands for 5. A request waits for all of a
            higher priority.
        client: Whose request it is: those of one client share one turn at the engine, however many
            they are. Any hashable value; None for a turn of its own.
        score_temperature: What logits are divided by where scores are made of them; the
            manifest's, for probabilities.
    """

    limits: Any
    labels: tuple[str, ...] = ()
    head: Any = None
    top_k: int = 1
    deadline_s: float = math.inf
    cancelled: threading.Event | None = None
    score_temperature: float = 1.0
    priority: int = 0
    client: Hashable | None = None

    @property
    def asked(self) -> Asked:
        """What of it concerns the queue."""
        return Asked(
            deadline_s=self.deadline_s,
            cancelled=self.cancelled,
            priority=self.priority,
            client=self.client,
        )


class Prepared(Protocol):
    """An input that is ready to be computed."""

    @property
    def sequences(self) -> Sequence[TokenSequence]:
        """What the model reads, at least one sequence."""
        ...


class Evaluation(Protocol):
    """What a Runtime made of a labelled file."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """The task's figures by name, the one that gates look at first."""
        ...

    @property
    def total(self) -> int:
        """Number of examples."""
        ...

    @property
    def predictions(self) -> Mapping[Any, str]:
        """What was given, as text, by the example's id or row."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name, for JSON."""
        ...

    def describe(self) -> str:
        """Return the figures as lines of text."""
        ...


# An item of a manifest's self-test: plain JSON values by name.
SelfTestItem = dict[str, Any]


class Task(TaskSettings, Generic[ItemT, PreparedT, ResultT]):
    """One task. Implementations are stateless and thread-safe.

    Attributes:
        name: As in manifests and on command lines, such as "question-answering"; its head's.
        limits_class: The task's limits: a frozen dataclass with max_seq_length among its fields.
            Each field is a flag, as those of layout_class are.
        layout_class: How data files may be laid out: a frozen dataclass, by default an empty one.
        data_files: What its data files may be, for help.
        method: The method of Runtime that asks it, such as "answer".
        noun: What a caller's inputs are called in messages, such as "pairs".
        head_spec: What its models have behind their encoder.
        options_class: CallOptions, or what the task's own options are.
        compared: Fields of a self-test item that are compared; those with "logit" in their name
            within a tolerance, others exactly.
    """

    method: ClassVar[str]
    noun: ClassVar[str]
    head_spec: ClassVar[HeadSpec]
    options_class: ClassVar[type[CallOptions]] = CallOptions
    compared: ClassVar[tuple[str, ...]]

    @property
    def outputs(self) -> Mapping[str, str]:
        """Outputs of the graph that decode reads, and their kind: PER_TOKEN or PER_SEQUENCE."""
        return self.head_spec.outputs

    # From a caller's input to a result.

    @abstractmethod
    def check_input(self, item: Any, place: str = "") -> ItemT:
        """Check an input as the caller gave it; raises InputError, with its place in front."""

    @abstractmethod
    def texts(self, item: ItemT) -> list[str]:
        """Return the texts of a checked input, in the order in which the model reads them."""

    @abstractmethod
    def num_chars(self, item: ItemT) -> int:
        """Return how long a checked input is, in characters."""

    def estimate_tokens(self, item: ItemT) -> int:
        """Return about how many tokens an input has, before it is tokenized."""
        return 1 + self.num_chars(item) // _CHARS_A_TOKEN

    @abstractmethod
    def prepare(
        self, items: Sequence[ItemT], session: Session, options: CallOptions
    ) -> Iterator[PreparedT]:
        """Tokenize checked inputs together and make them ready to be computed.

        Args:
            items: What check_input returned.
            session: Tokenizes.
            options: What is asked; limits is used.

        Yields:
            One prepared input an item, in order.

        Raises:
            InputError: An input cannot be computed; those before it have come by then.
        """

    @abstractmethod
    def decode(
        self, prepared: PreparedT, outputs: Sequence[Outputs], options: CallOptions
    ) -> ResultT:
        """Make a result of what the model gave for an input's sequences.

        Args:
            prepared: The input.
            outputs: For each of its sequences the arrays by name: of shape (T, ...) where they are
                per token, else of the shape that one sequence has.
            options: What is asked.

        Returns:
            The result.
        """

    # What an artifact says.

    @abstractmethod
    def read_limits(self, manifest: Manifest) -> Any:
        """Return the manifest's limits as the task's own dataclass; raises ArtifactFormatError."""

    def check_limits(self, limits: Any, architecture: BertConfig) -> None:
        """Refuse limits that a model cannot have, beyond its longest sequence.

        Tasks whose sequences have more to fit override it.

        Args:
            limits: The task's own dataclass.
            architecture: The model's.

        Raises:
            ConfigError: They do not fit.
        """

    def read_head(self, manifest: Manifest) -> Any:
        """Return what the manifest's head says; raises ArtifactFormatError.

        Tasks with several kinds of heads override it.
        """
        if manifest.head:
            raise ArtifactFormatError(
                f"manifest.head: got {dict(manifest.head)}, want none for {self.name}"
            )
        return None

    def default_top_k(self, manifest: Manifest) -> int:
        """Return how many results an input has where the caller does not say."""
        del manifest
        return 1

    @abstractmethod
    def check_self_test(self, where: str, item: SelfTestItem, manifest: Manifest) -> None:
        """Refuse a self-test item that is none of this task's; raises ArtifactFormatError."""

    def check_labels(self, labels: Sequence[str]) -> None:
        """Refuse labels of a task that has none; tasks with classes override it."""
        if labels:
            raise ArtifactFormatError(
                f"manifest.labels: got {len(labels)} labels, want none for {self.name}"
            )

    def check_outputs(self, outputs: Outputs, manifest: Manifest) -> None:
        """Compare one sequence's arrays with the manifest; raises ArtifactFormatError."""

    def check_manifest(self, manifest: Manifest) -> None:
        """Check what of a manifest depends on the task.

        Args:
            manifest: Of an artifact for this task.

        Raises:
            ArtifactFormatError: Limits, labels, outputs or a self-test item are not this task's.
        """
        self.read_limits(manifest)
        self.check_labels(manifest.labels)
        self.read_head(manifest)
        for name, kind in self.outputs.items():
            got = manifest.outputs.get(name)
            if got != kind:
                raise ArtifactFormatError(
                    f"manifest.models.model.outputs: got {dict(manifest.outputs)}, want {name!r} "
                    f"of kind {kind!r} for {self.name}"
                )
        for index, item in enumerate(manifest.self_test):
            where = f"self_test[{index}]"
            if "token_ids" in item:
                check_token_ids(f"{where}.token_ids", item["token_ids"])
            rest = {name: value for name, value in item.items() if name != "token_ids"}
            self.check_self_test(where, rest, manifest)

    # The self-test.

    @abstractmethod
    def self_test_input(self, item: SelfTestItem) -> ItemT:
        """Return the input that a self-test item holds."""

    @abstractmethod
    def self_test_result(
        self, prepared: PreparedT, outputs: Sequence[Outputs], options: CallOptions
    ) -> SelfTestItem:
        """Return the self-test item that these outputs make, perhaps with "lead"."""

    # The server.

    def http(self) -> HttpForm:
        """Return how the task is asked by HTTP; a task with fields of its own overrides it."""
        from bert_rt.tasks.forms.http import AnyForm  # needs msgspec, which servers have

        return AnyForm(self.method, self.noun)

    # Rows of tables.

    def rows(self) -> RowForm:
        """Return what rows mean; a task that takes more than a text overrides it."""
        return AnyRows()

    # Labelled data.

    @abstractmethod
    def read_examples(
        self,
        path: str | Path,
        layout: Any,
        labels: Sequence[str],
        head: Any = None,
        *,
        dropped: Dropped | None = None,
    ) -> list[Any]:
        """Read a labelled file, checked against a model's labels and head.

        Args:
            path: The file.
            layout: How the file is laid out, as make_layout gives it.
            labels: The model's.
            head: What its logits mean, as read_head gives it; None for the usual head.
            dropped: Counts examples that cannot be used and are left out; None: they are errors.

        Returns:
            The examples, at least one.

        Raises:
            InputError: The file cannot be read, or examples cannot be used.
        """

    @abstractmethod
    def evaluate(
        self, runtime: Runtime, examples: Sequence[Any], *, progress: Progress | None = None
    ) -> Evaluation:
        """Run a Runtime on labelled examples and score it."""


def limits_of(manifest: Manifest, cls: type[LimitsT]) -> LimitsT:
    """Read a manifest's limits as a dataclass, for Task.read_limits.

    Args:
        manifest: Any manifest.
        cls: The dataclass; every one of its fields must be there, but for those that are OPTIONAL,
            and no other.

    Returns:
        The limits, checked by the dataclass.

    Raises:
        ArtifactFormatError: A field is missing, unknown or wrong.
    """
    # A default belongs to the writer: a reader that filled one in would guess.
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    wanted = {field.name for field in fields}
    needed = {field.name for field in fields if not field.metadata.get(OPTIONAL)}
    if not needed <= set(manifest.limits) <= wanted:
        refuse("limits", sorted(manifest.limits), f"the fields {', '.join(sorted(wanted))}")
    try:
        return from_dict(cls, manifest.limits)
    except ConfigError as error:
        raise ArtifactFormatError(f"manifest.limits: {str(error)[:500]}") from None
