"""Checkpoint -> ONNX, by torch.onnx.export with dynamic batch and length."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from bert_rt.errors import UnsupportedOpError
from bert_rt.model.checkpoint import LoadedModel
from bert_rt.tasks.checkpoints import all_heads
from bert_rt.types import PER_SEQUENCE

__all__ = ["INPUT_NAMES", "TRACE_OPSET", "export_graph", "trace"]

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
    model = export_graph(
        loaded.model,
        examples,
        input_names=INPUT_NAMES,
        output_names=tuple(outputs),
        dynamic_shapes=(dims,) * len(INPUT_NAMES),
    )
    for value in (*model.graph.inputs, *model.graph.outputs):
        assert value.shape is not None, "the exporter says the rank of every input and output"
        is_whole = outputs.get(str(value.name)) == PER_SEQUENCE
        first = ["batch_size"] if is_whole else ["batch_size", "sequence_length"]
        value.shape = ir.Shape([*first, *value.shape[len(first) :]])
    return model


def export_graph(
    module: torch.nn.Module,
    examples: tuple[Any, ...],
    *,
    input_names: Sequence[str],
    output_names: Sequence[str],
    dynamic_shapes: tuple[Any, ...],
) -> ir.Model:
    """Trace a module.

    Args:
        module: In eval mode.
        examples: Arguments of its forward.
        input_names: Names of the graph's inputs.
        output_names: Names of the graph's outputs.
        dynamic_shapes: Of every argument the dimensions that vary, as in torch.export.

    Returns:
        A graph of standard operators, opset TRACE_OPSET.

    Raises:
        UnsupportedOpError: It cannot be traced.
    """
    with _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                module,
                examples,
                dynamo=True,
                opset_version=TRACE_OPSET,
                input_names=input_names,
                output_names=output_names,
                dynamic_shapes=dynamic_shapes,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise UnsupportedOpError(f"the model cannot be traced: {error}") from error
    assert program is not None, "torch.onnx.export returns a program with dynamo=True"
    _fold_transposed_weights(program.model.graph)
    return program.model


def _fold_transposed_weights(graph: ir.Graph) -> None:
    """Transpose weights in place of nodes that do.

    The exporter does so itself, but for large weights that something else reads, too: a vocabulary
    whose weights are the embeddings.
    """
    for node in list(graph):
        weight = node.inputs[0] if node.inputs else None
        if node.op_type != "Transpose" or weight is None or weight.const_value is None:
            continue
        perm = [int(axis) for axis in node.attributes["perm"].as_ints()]
        array = np.ascontiguousarray(weight.const_value.numpy().transpose(perm))
        tensor = ir.tensor(array, name=f"{weight.name}.transposed")
        value = ir.Value(
            name=tensor.name,
            const_value=tensor,
            type=ir.TensorType(tensor.dtype),
            shape=ir.Shape(array.shape),
        )
        graph.register_initializer(value)
        ir.convenience.replace_all_uses_with(node.outputs[0], value)
        graph.remove(node, safe=True)


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
