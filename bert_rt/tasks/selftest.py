"""The self-test of an artifact: known inputs, computed on the engine that will be used.

It finds what hashes cannot: a library, an instruction set or a machine that computes something
else than what the artifact was measured with.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers

from bert_rt.artifact.manifest import Manifest
from bert_rt.engines.base import EngineInfo
from bert_rt.errors import EngineError
from bert_rt.model.config import AnsweringConfig
from bert_rt.tasks.question_answering.answering import (
    CallOptions,
    PreparedQuestion,
    Session,
    check_pair,
)
from bert_rt.tasks.text_classification.classes import Classifier, check_input
from bert_rt.types import Answer, SpanLogits, TextInput

__all__ = [
    "LOGIT_ATOL",
    "make_classifier_self_test",
    "make_self_test",
    "run_self_test",
    "self_test_texts",
]

_LOG = logging.getLogger(__name__)

# How far a logit may be from the manifest's, by precision.
#
# float32: engines sum in different orders. Exported graph and PyTorch are within 1e-3 of each
# other (the compile stage's own gate); another engine and machine may be as far on the other side
# and use another exp and erf, so ten times as much.
#
# int8: an activation that lies on a rounding boundary falls to the other side where the float
# operators before it differ in the last bit, and so changes by a whole step of its scale; engines
# also differ in what they compute in INT8 beside the graph's linear layers (attention, in the
# native one). Measured on 89 questions of SQuAD v1.1 dev with the default model, ONNX Runtime
# against OpenVINO and native (AMX): median 0.03 and 0.04, at most 0.22 and 0.21, where the answer
# is the same. Three times that, since other models are deeper. A wrong kernel, weight or scale,
# which is what this is to find, moves logits by several units.
LOGIT_ATOL = {"float32": 1e-2, "int8": 0.75}

_COMPARED = {
    "question-answering": ("text", "start", "end", "start_logit", "end_logit"),
    "text-classification": ("logits",),
}


def run_self_test(session: Session, manifest: Manifest, info: EngineInfo) -> None:
    """Compute every item of the manifest's self-test and compare.

    Args:
        session: The open session.
        manifest: Its self_test holds the items, its limits are what they were made with.
        info: The engine, for the message.

    Raises:
        EngineError: A result is another one; the message says which, got and wanted.
    """
    atol = LOGIT_ATOL[manifest.precision]
    for index, want in enumerate(manifest.self_test):
        _check_token_ids(session, want, f"self_test[{index}].token_ids")
        if manifest.task == "text-classification":
            pair = (want["text"], want["text_pair"])
            got = _classify(session, *pair, manifest.labels, manifest.limits)
        else:
            got = _answer(session, want["question"], want["context"], manifest.limits)
        for name in _COMPARED[manifest.task]:
            is_logit = "logit" in name
            # Written so that NaN is a difference, too.
            is_same = (
                np.allclose(got[name], want[name], rtol=0, atol=atol)
                if is_logit
                else got[name] == want[name]
            )
            if not is_same:
                allowed = f" within {atol}" if is_logit else ""
                raise EngineError(
                    f"self_test[{index}].{name}: got {got[name]!r}, want {want[name]!r}{allowed}; "
                    f"the engine {info.name} {info.version} on {info.isa or info.device} does not "
                    "compute what the artifact was made with"
                )
    _LOG.debug("self-test: %d items passed on %s", len(manifest.self_test), info.name)


def _check_token_ids(session: Session, want: Mapping[str, Any], where: str) -> None:
    """Check that texts become the tokens that they became when the artifact was made."""
    got = _token_ids(session, self_test_texts(want))
    # Younger than the first artifacts of version 1.
    if want.get("token_ids", got) != got:
        raise EngineError(
            f"{where}: got {got}, want {want['token_ids']}; tokenizers {tokenizers.__version__} "
            "splits text otherwise than the release that the artifact was made with"
        )


def self_test_texts(item: Mapping[str, Any]) -> list[str]:
    """Return the texts of a self-test item, those that its token_ids are of."""
    names = ("question", "context") if "question" in item else ("text", "text_pair")
    return [item[name] for name in names if item[name] is not None]


def _token_ids(session: Session, texts: Sequence[str]) -> list[list[int]]:
    return [session.tokenizer.encode(text).input_ids.tolist() for text in texts]


def make_self_test(
    session: Session,
    pairs: Sequence[tuple[str, str]],
    config: AnsweringConfig,
    *,
    min_lead: float,
) -> tuple[dict[str, Any], ...]:
    """Make the items of a manifest's self-test.

    Args:
        session: A session on the engine whose results are to be expected.
        pairs: Questions and contexts to choose from.
        config: The manifest's limits.
        min_lead: Only answers whose raw score is so much above the next best span's become items,
            so that rounding on another engine does not make the runner-up the answer.

    Returns:
        The items, in the order of the pairs; possibly none.

    Raises:
        InputError: A pair is bad.
        EngineError: The engine failed.
    """
    items = [_answer(session, *pair, config) for pair in pairs]
    return tuple(item for item in items if item.pop("lead") >= min_lead)


def make_classifier_self_test(
    session: Session,
    texts: Sequence[str | tuple[str, str]],
    labels: Sequence[str],
    config: AnsweringConfig,
) -> tuple[dict[str, Any], ...]:
    """Make the items of a text classifier's self-test.

    Args:
        session: A session on the engine whose results are to be expected.
        texts: Texts, or pairs of them.
        labels: The manifest's labels.
        config: The manifest's limits.

    Returns:
        One item a text: what is compared is logits, so no text is too close a call.

    Raises:
        InputError: A text is bad.
        EngineError: The engine failed.
    """
    inputs = [check_input(text, "self_test") for text in texts]
    return tuple(_classify(session, i.text, i.text_pair, labels, config) for i in inputs)


def _classify(
    session: Session,
    text: str,
    text_pair: str | None,
    labels: Sequence[str],
    config: AnsweringConfig,
) -> dict[str, Any]:
    """Return an item of a text classifier's self-test."""
    given = TextInput(text, text_pair)
    result = next(
        Classifier(session, labels).stream([given], CallOptions(config), place="self_test")
    )
    item = {"text": text, "text_pair": text_pair, "logits": list(result.logits)}
    return item | {"token_ids": _token_ids(session, self_test_texts(item))}


def _answer(
    session: Session, question: str, context: str, config: AnsweringConfig
) -> dict[str, Any]:
    """Return an item of a self-test, and "lead", the best span's logit minus the next one's."""
    prepared = session.prepare(check_pair((question, context), "self_test"), config)
    options = CallOptions(config, top_k=2)
    (logits,) = session.compute([prepared], options)
    (answer,) = session.answer([prepared], options)
    start_logit, end_logit = _logits_of(answer, prepared, logits)
    runner_up = max((other.logit for other in answer.alternatives), default=-math.inf)
    return {
        "question": question,
        "context": context,
        "text": answer.text,
        "start": answer.start,
        "end": answer.end,
        "start_logit": start_logit,
        "end_logit": end_logit,
        "token_ids": _token_ids(session, (question, context)),
        "lead": answer.logit - runner_up,
    }


def _logits_of(
    answer: Answer, prepared: PreparedQuestion, logits: Sequence[SpanLogits]
) -> tuple[float, float]:
    """Return the start and the end logit that the answer's score is the sum of."""
    if not answer.text:
        # "No answer": the [CLS] token of the window where it scores least.
        return min(((float(w.start_logits[0]), float(w.end_logits[0])) for w in logits), key=sum)
    offsets = prepared.context.offsets
    first = int(np.searchsorted(offsets[:, 0], answer.start))
    # An answer may end behind its last token (combining marks), never before it.
    last = int(np.searchsorted(offsets[:, 1], answer.end, side="right")) - 1
    for feature, window in zip(prepared.features, logits, strict=True):
        position = first - feature.context_start
        if 0 <= position < feature.context_length and feature.is_max_context[position]:
            row = feature.context_offset + position
            return float(window.start_logits[row]), float(window.end_logits[row + last - first])
    raise AssertionError("every context token is is_max_context in one window")
