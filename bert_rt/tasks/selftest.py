"""The self-test of an artifact: known inputs, computed on the engine that will be used.

It finds what hashes cannot: a library, an instruction set or a machine that computes something
else than what the artifact was measured with.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tokenizers

from bert_rt.artifact.manifest import Manifest
from bert_rt.engines.base import EngineInfo
from bert_rt.errors import EngineError
from bert_rt.tasks.base import CallOptions, SelfTestItem, Task
from bert_rt.tasks.session import Session
from bert_rt.types import TokenSequence

__all__ = ["LOGIT_ATOL", "make_self_test", "run_self_test", "self_test_texts"]

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


def run_self_test(
    session: Session, task: Task[Any, Any, Any], manifest: Manifest, info: EngineInfo
) -> None:
    """Compute the manifest's self-test as one batch and compare; check the model's outputs.

    Args:
        session: The open session.
        task: The manifest's.
        manifest: Its self_test holds the items, its limits are what they were made with.
        info: The engine, for the message.

    Raises:
        ArtifactFormatError: The outputs do not fit the manifest (another number of classes, say).
        EngineError: A result is another one; the message says which, got and wanted.
    """
    atol = LOGIT_ATOL[manifest.precision]
    options = CallOptions(
        limits=task.read_limits(manifest),
        labels=manifest.labels,
        head=task.read_head(manifest),
    )
    items = [task.self_test_input(item) for item in manifest.self_test]
    prepared = list(task.prepare(items, session, options))
    # With a sequence of its own, so that outputs are checked where there are no items, too.
    tokenizer = session.tokenizer
    ids = np.array([tokenizer.cls_id, tokenizer.sep_id], np.int32)
    probe = _Probe((TokenSequence(ids, np.zeros(2, np.int32)),))
    (outputs,), *computed = session.compute([probe, *prepared], options)
    task.check_outputs(outputs, manifest)
    for index, want in enumerate(manifest.self_test):
        _check_token_ids(session, task, want, f"self_test[{index}].token_ids")
        got = task.self_test_result(prepared[index], computed[index], options)
        for name in task.compared:
            is_logit = "logit" in name
            # Written so that NaN is a difference, too.
            is_same = (
                np.shape(got[name]) == np.shape(want[name])
                and np.allclose(got[name], want[name], rtol=0, atol=atol)
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


def _check_token_ids(
    session: Session, task: Task[Any, Any, Any], want: SelfTestItem, where: str
) -> None:
    """Check that texts become the tokens that they became when the artifact was made."""
    got = _token_ids(session, self_test_texts(task, want))
    # Artifacts of earlier releases have none.
    if want.get("token_ids", got) != got:
        raise EngineError(
            f"{where}: got {got}, want {want['token_ids']}; tokenizers {tokenizers.__version__} "
            "splits text otherwise than the release that the artifact was made with"
        )


def self_test_texts(task: Task[Any, Any, Any], item: SelfTestItem) -> list[str]:
    """Return the texts of a self-test item, those that its token_ids are of."""
    return task.texts(task.self_test_input(item))


def _token_ids(session: Session, texts: Sequence[str]) -> list[list[int]]:
    return [session.tokenizer.encode(text).input_ids.tolist() for text in texts]


def make_self_test(
    session: Session,
    task: Task[Any, Any, Any],
    inputs: Sequence[Any],
    options: CallOptions,
    *,
    min_lead: float = 0.0,
) -> tuple[SelfTestItem, ...]:
    """Make the items of a manifest's self-test.

    Args:
        session: A session on the engine whose results are to be expected.
        task: The artifact's.
        inputs: What task.check_input takes, to choose from.
        options: The manifest's limits and labels.
        min_lead: Only results whose raw score is so much above the next best one's become items,
            where the task tells that, so that rounding on another engine does not make the
            runner-up the result.

    Returns:
        The items, in the order of the inputs; possibly none.

    Raises:
        InputError: An input is bad.
        EngineError: The engine failed.
    """
    checked = [task.check_input(item, "self_test") for item in inputs]
    prepared = list(task.prepare(checked, session, options))
    items = [
        task.self_test_result(item, outputs, options)
        for item, outputs in zip(prepared, session.compute(prepared, options), strict=True)
    ]
    kept = [item for item in items if item.pop("lead", math.inf) >= min_lead]
    return tuple(
        item | {"token_ids": _token_ids(session, self_test_texts(task, item))} for item in kept
    )


@dataclass(frozen=True, slots=True)
class _Probe:
    """The shortest input, for a look at the outputs."""

    sequences: tuple[TokenSequence]
