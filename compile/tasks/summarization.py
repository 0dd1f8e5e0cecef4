"""Compiling models that choose the sentences of a document, judged by ROUGE-1.

Shapes: Q documents, E evaluations.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bert_rt.api import Runtime
from bert_rt.artifact.manifest import Manifest
from bert_rt.errors import CalibrationError
from bert_rt.model.checkpoint import LoadedModel
from bert_rt.model.config import BertConfig
from bert_rt.support.progress import Progress
from bert_rt.tasks.limits import SummaryConfig
from bert_rt.tasks.summarization.documents import SummarizedText
from bert_rt.tasks.summarization.evaluation import SummaryEvaluation
from bert_rt.tasks.summarization.summarizing import Summarization as SummarizingTask
from bert_rt.tasks.summarization.summarizing import prepare_document
from bert_rt.text.sentences import sentence_spans
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import TokenSequence
from compile.graph.head import GraphHead
from compile.judge.gate import Measure
from compile.judge.noninferiority import resampled_means
from compile.judge.temperature import FittedTemperature
from compile.report.changes import Change, worst_first
from compile.tasks.base import CompileTask, Settings

__all__ = ["Summarization"]


class Summarization(CompileTask):
    """Documents with summaries, judged by ROUGE-1 of the sentences chosen."""

    task = SummarizingTask()
    # Whether a sentence is in a summary depends on the others: a score is no probability of that.
    has_probabilities = False
    golden_inputs: ClassVar[Sequence[Any]] = (
        "The first transatlantic telegraph cable was completed in August 1858. It ran from "
        "Valentia Island in Ireland to Trinity Bay in Newfoundland. It failed after three weeks. "
        "Too high a voltage had been applied to it.",
        "Lake Baikal in southern Siberia is the deepest lake on Earth. It holds about a fifth of "
        "the world's unfrozen fresh water!\n\nIt is some 25 million years old",
    )
    measure = Measure(
        metrics={"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"},
        comparisons={"equal_summaries": "equal summaries"},
        examples="texts",
        clusters="texts",
        min_ratio=0.98,
        max_loss=1.5,
        tolerance=0.3,
        changes=("text", "float's summary", "ROUGE-1", "INT8's summary", "ROUGE-1"),
    )
    limits: SummaryConfig

    @classmethod
    def measures(cls) -> Sequence[Measure]:
        """Return the only one."""
        return [cls.measure]

    @classmethod
    def for_model(cls, loaded: LoadedModel, settings: Settings) -> Summarization:
        """Make the part of a checkpoint."""
        part = cls(settings)
        part.num_token_types = loaded.config.num_token_types
        return part

    @classmethod
    def for_manifest(cls, manifest: Manifest, settings: Settings) -> Summarization:
        """Make the part of an artifact."""
        del manifest
        return cls(settings)

    def graph_head(self, config: BertConfig) -> GraphHead:
        """Return the one linear layer over all tokens."""
        del config
        return GraphHead(("classifier",))

    def passage(self, example: SummarizedText) -> Hashable:
        """Return the document."""
        return example.text

    def describe_shared(self, mine: SummarizedText, other: SummarizedText) -> str:
        """Say in which lines the document stands."""
        return f"stands in {mine.place}, and in {other.place}"

    def draw(
        self,
        examples: Sequence[SummarizedText],
        tokenizer: Tokenizer,
        *,
        num_samples: int,
        seed: int,
    ) -> Sequence[TokenSequence]:
        """Draw documents, and of each a window; raises EmptyInputError for one without a token."""
        if not examples:
            raise CalibrationError("calibration_file: has no text")
        random = np.random.default_rng(seed)
        drawn: list[TokenSequence] = []
        for index in random.permutation(len(examples))[:num_samples]:
            text = examples[index].text
            prepared = prepare_document(
                text,
                sentence_spans(text),
                tokenizer,
                self.limits,
                num_token_types=self.num_token_types,
            )
            drawn.append(prepared.windows[int(random.integers(len(prepared.windows)))])
        return drawn

    def fit_temperature(
        self, runtime: Runtime, examples: Sequence[SummarizedText], progress: Progress
    ) -> FittedTemperature:
        """Not asked, see has_probabilities."""
        raise AssertionError("scores rank sentences, so no temperature is fitted")

    def resample(
        self, evaluations: Sequence[SummaryEvaluation], cluster_Q: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Average ROUGE-1."""
        rouge_QE = np.stack([result.rouge_Q3[:, 0] for result in evaluations], axis=1)
        return resampled_means(rouge_QE, cluster_Q)

    def compare(
        self,
        reference: SummaryEvaluation,
        int8: SummaryEvaluation,
        examples: Sequence[SummarizedText],
    ) -> Mapping[str, float | NDArray[np.float64]]:
        """Tell the share of documents that get float's summary."""
        del examples
        pairs = zip(reference.summaries, int8.summaries, strict=True)
        return {"equal_summaries": float(np.mean([a.text == b.text for a, b in pairs]))}

    def confidence(self, evaluation: SummaryEvaluation) -> None:
        """Return None: scores rank sentences."""
        del evaluation

    def changes(
        self,
        reference: SummaryEvaluation,
        int8: SummaryEvaluation,
        examples: Sequence[SummarizedText],
    ) -> list[Change]:
        """List the documents whose summaries differ."""
        return worst_first(
            Change(example.text, mine.text, his.text, float(score) / 100, float(his_score) / 100)
            for example, mine, his, score, his_score in zip(
                examples,
                reference.summaries,
                int8.summaries,
                reference.rouge_Q3[:, 0],
                int8.rouge_Q3[:, 0],
                strict=True,
            )
            if mine.text != his.text
        )
