"""The task's part in a compile."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from bert_rt.errors import CalibrationError
from bert_rt.types import TokenSequence
from compile.graph.head import GraphHead
from compile.judge.gate import Measure
from compile.judge.noninferiority import resampled_means
from compile.report.changes import Change, worst_first
from compile.tasks.base import CompileTask
from tests.support.toy_task.task import Example, Limits, ShareEvaluation, WordShares, encode


class CompileWordShares(CompileTask):
    task = WordShares()
    limits: Limits
    has_probabilities = False
    golden_inputs = ("the cat sat on the mat", "who is in paris")
    measure = Measure(
        metrics={"closeness": "closeness"},
        comparisons={"distance": "mean distance from float"},
        examples="texts",
        clusters="texts",
        min_ratio=0.98,
        max_loss=2.0,
        tolerance=0.5,
        changes=("text", "float's shares", "closeness", "INT8's shares", "closeness"),
        digits={"distance": 4},
    )

    @classmethod
    def measures(cls) -> Sequence[Measure]:
        return [cls.measure]

    @classmethod
    def for_model(cls, loaded: Any, settings: Any) -> CompileWordShares:
        return cls(settings)

    @classmethod
    def for_manifest(cls, manifest: Any, settings: Any) -> CompileWordShares:
        return cls(settings)

    def graph_head(self, config: Any) -> GraphHead:
        return GraphHead(("pooler.dense", "shares"), {"gemm": 2})

    def passage(self, example: Example) -> Hashable:
        return example.text

    def describe_shared(self, mine: Example, other: Example) -> str:
        return f"is {mine.text!r}"

    def draw(
        self, examples: Sequence[Example], tokenizer: Any, *, num_samples: int, seed: int
    ) -> Sequence[TokenSequence]:
        if not examples:
            raise CalibrationError("calibration_file: has no text")
        chosen = np.random.default_rng(seed).permutation(len(examples))[:num_samples]
        length = self.limits.max_seq_length
        return [encode(examples[index].text, tokenizer, length) for index in chosen]

    def fit_temperature(self, runtime: Any, examples: Any, progress: Any) -> Any:
        raise AssertionError("shares are no probabilities of a choice")

    def resample(self, evaluations: Sequence[ShareEvaluation], cluster_Q: Any) -> Any:
        closeness_QE = np.stack([result.closeness_Q for result in evaluations], axis=1)
        return resampled_means(closeness_QE, cluster_Q)

    def compare(
        self, reference: ShareEvaluation, int8: ShareEvaluation, examples: Any
    ) -> Mapping[str, float]:
        return {"distance": float(np.abs(int8.results - reference.results).mean())}

    def confidence(self, evaluation: Any) -> None:
        return None

    def changes(
        self, reference: ShareEvaluation, int8: ShareEvaluation, examples: Sequence[Example]
    ) -> list[Change]:
        return worst_first(
            Change(
                example.text,
                repr(want.tolist()),
                repr(got.tolist()),
                float(1 - np.abs(want - gold).mean()),
                float(1 - np.abs(got - gold).mean()),
            )
            for example, want, got, gold in zip(
                examples, reference.results, int8.results, reference.gold, strict=True
            )
            if np.abs(want - got).max() > 0.02
        )
