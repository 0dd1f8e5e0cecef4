"""When to say "no answer": the threshold with the best F1 on questions that were set aside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bert_rt.api import Runtime
from bert_rt.artifact.artifact import build_artifact
from bert_rt.artifact.manifest import ManifestFields
from bert_rt.errors import CalibrationError
from bert_rt.model.config import AnsweringConfig, from_dict
from bert_rt.support.progress import progress
from bert_rt.tasks.question_answering.metrics import evaluate_squad
from bert_rt.tasks.question_answering.no_answer import Threshold, always_answering, best_threshold
from bert_rt.tasks.question_answering.squad import SquadExample

__all__ = ["check_both_kinds", "tune_threshold"]


def check_both_kinds(examples: Sequence[SquadExample]) -> None:
    """Refuse questions that cannot tell when to say "no answer".

    Args:
        examples: Those of the calibration file that were set aside.

    Raises:
        CalibrationError: They do not hold both kinds, questions with and without an answer.
    """
    num_impossible = sum(example.is_impossible for example in examples)
    if not 0 < num_impossible < len(examples):
        raise CalibrationError(
            f"calibration_file: got {num_impossible} questions without an answer among the "
            f"{len(examples)} that were set aside to find null_score_diff_threshold, want both "
            "kinds; python -m train.unanswerable makes such a file of SQuAD v1.1, and "
            "--null_score_diff_threshold sets the threshold by hand"
        )


def tune_threshold(
    files: Mapping[str, bytes], fields: ManifestFields, examples: Sequence[SquadExample]
) -> Threshold:
    """Find a model's threshold.

    Args:
        files: The artifact's files.
        fields: Its manifest's fields; limits with version_2_with_negative.
        examples: Questions with and without answers, at least one, that the artifact is not
            evaluated on.

    Returns:
        The threshold on ONNX Runtime.
    """
    limits = from_dict(AnsweringConfig, fields["limits"])
    artifact = build_artifact(files=files, **fields)
    predictions, margins = {}, []
    with (
        Runtime.open(artifact, engine="onnxruntime", config=always_answering(limits)) as runtime,
        progress("tune threshold", total=len(examples), unit="questions") as shown,
    ):
        answers = runtime.stream((e.question, e.context) for e in examples)
        for example, answer in zip(examples, answers, strict=True):
            predictions[example.id] = answer.text
            margins.append(answer.null_score - answer.logit)
            shown.advance(1)
    spans = evaluate_squad(predictions, examples, version_2_with_negative=True)
    nothing = dict.fromkeys(predictions, "")
    nulls = evaluate_squad(nothing, examples, version_2_with_negative=True)
    return best_threshold(np.array(margins), spans.f1s, nulls.f1s)
