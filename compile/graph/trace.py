"""Checkpoint -> ONNX, by torch.onnx.export with dynamic batch and length."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

import onnx_ir as ir
import torch

from bert_rt.errors import UnsupportedOpError
from bert_rt.model.checkpoint import LoadedModel
from bert_rt.tasks.checkpoints import all_heads
from bert_rt.types import PER_SEQUENCE

__all__ = ["INPUT_NAMES", "TRACE_OPSET", "trace"]

INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")
# The exporter's own operator set; the rewrite rules raise it to what the fused operators need.
TRACE_OPSET = 18


def trace(loaded: LoadedModel) -> ir.Model:
    """Trace a model to ONNX.

    Args:
        loaded: The checkpoint's model, in eval mode.

    Returns:
        A graph of standard operators, opset TRACE_OPSET, with inputs INPUT_NAMES of shape
        [batch_size, sequence_length], int64, and the outputs of its head: of the shape
        [batch_size, sequence_length, ...] per token and [batch_size, ...] per sequence.

    Raises:
        UnsupportedOpError: The task has no compiled form, or the model cannot be traced.
    """
    outputs = loaded.model.spec.outputs
    if not outputs:
        known = ", ".join(head.name for head in all_heads().values() if head.outputs)
        raise UnsupportedOpError(f"task: got {loaded.task!r}, want one that compiles: {known}")
    # Two rows, since the tracer takes a size of 1 for a constant; and a tensor of its own for each
    # input, since it takes equal ones for one.
    shape = (2, min(17, loaded.config.max_sequence_length))
    examples = tuple(torch.ones(shape, dtype=torch.int64) for _ in INPUT_NAMES)
    if loaded.config.num_token_types < 2:
        examples = (*examples[:2], torch.zeros(shape, dtype=torch.int64))
    dims = {
        0: torch.export.Dim("batch_size", min=1, max=2**20),
        1: torch.export.Dim("sequence_length", min=1, max=loaded.config.max_sequence_length),
    }
    with _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                loaded.model,
                examples,
                dynamo=True,
                opset_version=TRACE_OPSET,
                input_names=INPUT_NAMES,
                output_names=tuple(outputs),
                dynamic_shapes=(dims,) * len(INPUT_NAMES),
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise UnsupportedOpError(f"the model cannot be traced: {error}") from error
    assert program is not None, "torch.onnx.export returns a program with dynamo=True"
    model = program.model
    for value in (*model.graph.inputs, *model.graph.outputs):
        assert value.shape is not None, "the exporter says the rank of every input and output"
        is_whole = outputs.get(str(value.name)) == PER_SEQUENCE
        first = ["batch_size"] if is_whole else ["batch_size", "sequence_length"]
        value.shape = ir.Shape([*first, *value.shape[len(first) :]])
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporter says to its own developers from the user's terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
