"""The task as runtimes know it, with limits, a layout of files and results of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bert_rt.artifact.checks import check_fields, check_logit, check_string, plain_list
from bert_rt.artifact.manifest import Manifest
from bert_rt.errors import ArtifactFormatError, InputError
from bert_rt.model.config import BertConfig, check_int
from bert_rt.model.head import HeadSpec
from bert_rt.tasks.base import CallOptions, SelfTestItem, Task, limits_of
from bert_rt.tasks.session import Session
from bert_rt.tasks.texts import check_text
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import PER_SEQUENCE, Outputs, TokenSequence

COUNTED = ("the", "cat")
NUM_SHARES = len(COUNTED)


def _make(config: BertConfig, num_labels: int) -> Any:
    from tests.support.toy_task.model import BertForWordShares

    del num_labels
    return BertForWordShares(config)


HEAD = HeadSpec(
    name="word-shares",
    class_suffixes=("ForWordShares",),
    make=_make,
    outputs={"logits": PER_SEQUENCE},
    is_pooled=True,
)


@dataclass(frozen=True, kw_only=True)
class Limits:
    max_seq_length: int = 48
    decimals: int = 6

    def __post_init__(self) -> None:
        check_int("Limits", "max_seq_length", self.max_seq_length, 8, 512)
        check_int("Limits", "decimals", self.decimals, 0, 9)


@dataclass(frozen=True, kw_only=True)
class Layout:
    text_field: str = "text"


@dataclass(frozen=True)
class Example:
    text: str
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Prepared:
    text: str
    sequence: TokenSequence

    @property
    def sequences(self) -> tuple[TokenSequence]:
        return (self.sequence,)


@dataclass(frozen=True)
class ShareEvaluation:
    """How near the results are: 100 less a hundred times the mean distance."""

    results: np.ndarray
    gold: np.ndarray
    seconds: float

    @property
    def closeness_Q(self) -> np.ndarray:
        closeness: np.ndarray = 100 * (1 - np.abs(self.results - self.gold).mean(axis=1))
        return closeness

    @property
    def metrics(self) -> Mapping[str, float]:
        return {"closeness": float(self.closeness_Q.mean())}

    @property
    def total(self) -> int:
        return len(self.gold)

    @property
    def per_second(self) -> float:
        return self.total / self.seconds

    @property
    def predictions(self) -> Mapping[Any, str]:
        return {str(row): repr(result.tolist()) for row, result in enumerate(self.results)}

    def to_dict(self) -> dict[str, Any]:
        return {**self.metrics, "total": self.total}

    def describe(self) -> str:
        return f"closeness {self.metrics['closeness']:.2f} over {self.total} texts"


def encode(text: str, tokenizer: Tokenizer, max_seq_length: int) -> TokenSequence:
    words = tokenizer.encode(text).input_ids[: max_seq_length - 2]
    ids = np.array([tokenizer.cls_id, *words, tokenizer.sep_id], np.int32)
    return TokenSequence(ids, np.zeros_like(ids))


class WordShares(Task[str, Prepared, tuple[float, ...]]):
    name = HEAD.name
    method = "ask"
    noun = "texts"
    head_spec = HEAD
    limits_class = Limits
    layout_class = Layout
    data_files = "JSON Lines of texts and shares"
    compared = ("share_logits",)

    def check_input(self, item: Any, place: str = "") -> str:
        check_text(place or "text", item, max_chars=10_000)
        return str(item)

    def texts(self, item: str) -> list[str]:
        return [item]

    def num_chars(self, item: str) -> int:
        return len(item)

    def prepare(
        self, items: Sequence[str], session: Session, options: CallOptions
    ) -> Iterator[Prepared]:
        for item in items:
            sequence = encode(item, session.tokenizer, options.limits.max_seq_length)
            yield Prepared(item, sequence)

    def decode(
        self, prepared: Prepared, outputs: Sequence[Outputs], options: CallOptions
    ) -> tuple[float, ...]:
        (output,) = outputs
        return tuple(round(float(x), options.limits.decimals) for x in output["logits"])

    def read_limits(self, manifest: Manifest) -> Limits:
        return limits_of(manifest, Limits)

    def check_outputs(self, outputs: Outputs, manifest: Manifest) -> None:
        if outputs["logits"].shape != (NUM_SHARES,):
            raise ArtifactFormatError(f"{manifest.model.file}: want {NUM_SHARES} numbers a text")

    def check_self_test(self, where: str, item: SelfTestItem, manifest: Manifest) -> None:
        check_fields(where, item, {"text": check_string, "share_logits": _check_shares})

    def self_test_input(self, item: SelfTestItem) -> str:
        return self.check_input(item["text"], "self_test")

    def self_test_result(
        self, prepared: Prepared, outputs: Sequence[Outputs], options: CallOptions
    ) -> SelfTestItem:
        return {"text": prepared.text, "share_logits": [float(x) for x in outputs[0]["logits"]]}

    def read_examples(
        self,
        path: str | Path,
        layout: Layout,
        labels: Sequence[str],
        head: Any = None,
        *,
        dropped: Any = None,
    ) -> list[Example]:
        rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
        if any(layout.text_field not in row for row in rows):
            raise InputError(f"{path}: want {layout.text_field!r} in every line")
        return [Example(row[layout.text_field], tuple(row["shares"])) for row in rows]

    def evaluate(
        self, runtime: Any, examples: Sequence[Example], *, progress: Any = None
    ) -> ShareEvaluation:
        start_s = time.perf_counter()
        results = []
        for result in runtime.ask_stream(example.text for example in examples):
            results.append(result)
            if progress is not None:
                progress.advance()
        gold = np.array([example.shares for example in examples])
        return ShareEvaluation(np.array(results), gold, time.perf_counter() - start_s)


def _check_shares(where: str, value: object) -> None:
    for number in plain_list(where, value, NUM_SHARES):
        check_logit(where, number)
