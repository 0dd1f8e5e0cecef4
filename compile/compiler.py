"""The whole compile in one view: checkpoint in, artifact out, or nothing.

load -> trace -> fuse -> compare with PyTorch -> quantize (compile.int8.recipe) -> gate -> write
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch

import bert_rt
from bert_rt.api import Runtime
from bert_rt.artifact.artifact import (
    MODEL_NAME,
    TOKENIZER_NAME,
    Artifact,
    build_artifact,
    check_output_dir,
    write_artifact,
)
from bert_rt.artifact.manifest import ManifestFields, ModelEntry
from bert_rt.errors import CalibrationError, CheckpointError, ConfigError, InputTooLongError
from bert_rt.model.checkpoint import (
    LoadedModel,
    checkpoint_hash,
    load_model,
    read_config,
    task_of,
)
from bert_rt.model.config import AnsweringConfig, Columns, to_dict
from bert_rt.support.faults import Dropped
from bert_rt.support.progress import progress
from bert_rt.text.tokenization import Tokenizer
from compile.graph.fuse import OPSET, fuse
from compile.graph.parity import NUM_SHAPES, check_parity
from compile.graph.trace import trace
from compile.int8.control import hold_out
from compile.int8.quantize import QuantConfig
from compile.int8.recipe import Compiled, quantize_within_bars
from compile.judge.gate import Gate, data_hash, measure
from compile.judge.temperature import MIN_EXAMPLES, tune_temperature
from compile.judge.threshold import check_both_kinds, tune_threshold
from compile.judge.tokens import check_token_ids, check_tokenizer
from compile.report.report import render_report
from compile.tasks.base import CompileTask, make_task
from compile.tasks.text_classification import AccuracyGate

__all__ = ["CompileOptions", "compile_checkpoint"]

_TOOLS = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "tokenizers", "numpy")


@dataclass(frozen=True, kw_only=True)
class CompileOptions:
    """What to compile, and how.

    Attributes:
        model_name_or_path: The checkpoint directory.
        output_dir: The artifact directory.
        task: What the model does, where config.json has no architectures; None for what it says.
        int8: Whether to quantize.
        calibration_file: Questions over passages, or labelled texts, that INT8 is calibrated on;
            never evaluated.
        eval_file: Those that the receipt and the gate are measured on.
        score_calibration_file: Those that the temperature of scores is fitted on; None for those of
            the calibration file that are set aside.
        limits: How passages are cut into windows and answers are picked.
        quant: How to quantize.
        gate: What INT8 must keep of question answering.
        accuracy_gate: What it must keep of text classification.
        columns: How files of labelled texts name their columns.
        drop_invalid: Whether examples that cannot be used are left out; else they are errors.
        tune_threshold: Whether null_score_diff_threshold is found on questions of the calibration
            file that were set aside, where limits have version_2_with_negative.
    """

    model_name_or_path: Path
    output_dir: Path
    task: str | None = None
    int8: bool = False
    calibration_file: Path | None = None
    eval_file: Path | None = None
    score_calibration_file: Path | None = None
    limits: AnsweringConfig = field(default_factory=AnsweringConfig)
    quant: QuantConfig = field(default_factory=QuantConfig)
    gate: Gate = field(default_factory=Gate)
    accuracy_gate: AccuracyGate = field(default_factory=AccuracyGate)
    columns: Columns = field(default_factory=Columns)
    drop_invalid: bool = False
    tune_threshold: bool = True

    def __post_init__(self) -> None:
        """Check what contradicts.

        Raises:
            ConfigError: INT8 is asked for without text to calibrate on.
        """
        if self.int8 and self.calibration_file is None:
            raise ConfigError(
                "calibration_file: got none, want training data with --int8: the ranges of "
                "activations are measured on real text"
            )

    @property
    def tunes_threshold(self) -> bool:
        """Whether there is a threshold to be found, and text to find it on."""
        return (
            self.limits.version_2_with_negative
            and self.tune_threshold
            and self.calibration_file is not None
        )


@dataclass(frozen=True, slots=True)
class _Data:
    """Examples of the task.

    Attributes:
        calibration: Those that INT8 is calibrated on.
        held_out: Those of the same file that were set aside.
        scored: Those that the temperature of scores is fitted on.
        evaluation: Those that everything is measured on.
    """

    calibration: list[Any]
    held_out: list[Any]
    scored: list[Any]
    evaluation: list[Any]


def compile_checkpoint(options: CompileOptions) -> Artifact:
    """Compile a checkpoint.

    Args:
        options: What and how.

    Returns:
        The artifact that was written.

    Raises:
        CheckpointError: The checkpoint cannot be read.
        ConfigError: The checkpoint is for another task than the one given.
        InputError: A data file cannot be read.
        CompileError: The model cannot be compiled within what is wanted; nothing was written.
        ArtifactError: The artifact cannot be written.
    """
    check_output_dir(options.output_dir)
    _, raw_config = read_config(options.model_name_or_path)
    loaded = load_model(options.model_name_or_path, task_of(raw_config, options.task))
    task = make_task(
        loaded,
        gate=options.gate,
        accuracy_gate=options.accuracy_gate,
        columns=options.columns,
    )
    tokenizer = Tokenizer.from_directory(options.model_name_or_path)
    check_tokenizer(options.model_name_or_path, tokenizer)
    _check_limits(options.limits, loaded)
    _check_weights(loaded)
    # Data first: a typing error in a path should not be told after minutes of work.
    data, quant = _read(task, options), options.quant

    model = trace(loaded)
    fusions = fuse(model, loaded.config, task=loaded.task)
    with progress("compare with PyTorch", total=NUM_SHAPES, unit="shapes") as shown:
        parity = check_parity(model, loaded, seed=quant.seed, progress=shown)
    fields = ManifestFields(
        task=loaded.task,
        architecture=loaded.config,
        precision="float32",
        limits=to_dict(task.limits(options.limits)),
        models={"model": ModelEntry(file=MODEL_NAME, outputs=task.outputs)},
        labels=task.labels,
        fusions=fusions,
        provenance=_provenance(options, parity),
    )
    make_files = partial(_files, tokenizer=tokenizer)
    compiled = reference = _tuned(Compiled(make_files(model), fields, {}), task, data, options)
    if options.int8:
        compiled = quantize_within_bars(
            model, reference, task, data.calibration, data.held_out, tokenizer, quant, make_files
        )
        # Quantization moves the scores that threshold and temperature are about.
        compiled = _tuned(compiled, task, data, options)
    _measure(compiled, reference, task, data.evaluation, tokenizer, options)
    return _write(compiled, task, options)


def _read(task: CompileTask, options: CompileOptions) -> _Data:
    """Read all data files and check what they have in common."""

    def read(path: Path | None) -> list[Any]:
        return task.read(path, Dropped() if options.drop_invalid else None) if path else []

    calibration, evaluation = read(options.calibration_file), read(options.eval_file)
    task.check_disjoint(calibration, evaluation, field="calibration_file")
    quant = options.quant
    calibration, held_out = hold_out(
        calibration, task.passage, num_held_out=quant.num_held_out, seed=quant.seed
    )
    if options.tunes_threshold and not task.labels and quant.num_held_out:
        check_both_kinds(held_out)
    if options.score_calibration_file is None:
        return _Data(calibration, held_out, held_out, evaluation)
    scored = read(options.score_calibration_file)
    task.check_disjoint(scored, evaluation, field="score_calibration_file")
    if len(scored) < MIN_EXAMPLES:
        raise CalibrationError(
            f"score_calibration_file: got {len(scored)} examples, want at least {MIN_EXAMPLES}"
        )
    return _Data(calibration, held_out, scored, evaluation)


def _check_limits(limits: AnsweringConfig, loaded: LoadedModel) -> None:
    longest = loaded.config.max_sequence_length
    if limits.max_seq_length > longest:
        raise InputTooLongError(
            f"max_seq_length: got {limits.max_seq_length}, want at most the model's longest "
            f"sequence ({longest})"
        )


def _check_weights(loaded: LoadedModel) -> None:
    # Here and not by what they lead to: one row of a table is in no text that would be tried.
    for name, parameter in loaded.model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise CheckpointError(f"{name}: got NaN or infinite values, want finite ones")


def _tuned(compiled: Compiled, task: CompileTask, data: _Data, options: CompileOptions) -> Compiled:
    """Find what is set by examples and not by the user: threshold, then temperature of scores.

    The threshold is that of "no answer", where there is such a thing and none was given.
    """
    fields = compiled.fields
    is_answering = fields["task"] == "question-answering"
    if options.tunes_threshold and is_answering and data.held_out:
        threshold = tune_threshold(compiled.files, fields, data.held_out)
        told = {**dataclasses.asdict(threshold), "held_out": len(data.held_out)}
        limits = replace(options.limits, null_score_diff_threshold=threshold.value)
        fields = _with(fields, "threshold", told, limits=to_dict(limits))
    if data.scored:
        found = tune_temperature(compiled.files, fields, data.scored, task.fit_temperature)
        is_own = options.score_calibration_file is not None
        told = {
            **dataclasses.asdict(found),
            "data": "score_calibration_file" if is_own else "calibration_file",
        }
        temperature = found.score_temperature
        fields = _with(fields, "score_calibration", told, score_temperature=temperature)
    return replace(compiled, fields=fields)


def _with(fields: ManifestFields, name: str, told: Any, **changes: Any) -> ManifestFields:
    """Change fields of the manifest, and say in its provenance why."""
    provenance = {**fields["provenance"], name: told}
    return ManifestFields(**{**fields, **changes, "provenance": provenance})  # type: ignore[typeddict-item]


def _measure(
    compiled: Compiled,
    reference: Compiled,
    task: CompileTask,
    evaluation: list[Any],
    tokenizer: Tokenizer,
    options: CompileOptions,
) -> None:
    """Add the self-test to the fields and, with an eval_file, the receipt; ask the gate."""
    artifact = build_artifact(files=compiled.files, **compiled.fields)
    with Runtime.open(artifact, engine="onnxruntime") as runtime:
        compiled.fields["self_test"] = task.golden_items(runtime)
        check_token_ids(compiled.fields["self_test"], runtime.task, tokenizer)
    if options.eval_file is None:
        return
    in_float = build_artifact(files=reference.files, **reference.fields)
    score = task.evaluate
    float_result = measure(in_float, evaluation, engines=("onnxruntime",), score=score)
    reference_result = float_result["onnxruntime"]
    int8_results = measure(artifact, evaluation, score=score) if options.int8 else {}
    receipt = task.receipt(options.eval_file, evaluation, reference_result, int8_results)
    if options.drop_invalid:
        # So that compile.verify reads the same examples.
        receipt["dataset"]["drop_invalid"] = True
    compiled.fields["receipt"] = receipt
    if options.int8:
        task.check(receipt, compiled.plans)
    for engine, result in int8_results.items():
        compiled.changes[engine] = task.changes(reference_result, result, evaluation)


def _write(compiled: Compiled, task: CompileTask, options: CompileOptions) -> Artifact:
    fields = compiled.fields
    report = render_report(
        title=f"{options.model_name_or_path.resolve().name}, {fields['precision']}",
        fusions=fields["fusions"],
        provenance=fields["provenance"],
        receipt=fields.get("receipt"),
        plans=compiled.plans,
        bars=task.bars,
        changes=compiled.changes,
        quantization=fields.get("quantization", {}),
    )
    files = {**compiled.files, "report.html": report}
    return write_artifact(options.output_dir, files=files, **fields)


def _files(model: ir.Model, tokenizer: Tokenizer) -> dict[str, bytes]:
    proto = ir.to_proto(model)
    # The path of the machine that compiled is nobody's business, and would change the hash.
    proto.producer_name, proto.producer_version = "bert-rt", bert_rt.__version__
    return {
        MODEL_NAME: proto.SerializeToString(deterministic=True),
        TOKENIZER_NAME: tokenizer.to_json(),
    }


def _provenance(options: CompileOptions, parity: Mapping[str, float]) -> dict[str, Any]:
    fits_scores = options.quant.num_held_out > 0 and options.score_calibration_file is None
    is_calibrated = options.int8 or options.tunes_threshold or fits_scores
    data = {
        name: {"name": path.name, "sha256": data_hash(path)}
        for name, path in (
            ("calibration_file", options.calibration_file if is_calibrated else None),
            ("eval_file", options.eval_file),
            ("score_calibration_file", options.score_calibration_file),
        )
        if path is not None
    }
    return {
        "checkpoint": options.model_name_or_path.resolve().name,
        "checkpoint_sha256": checkpoint_hash(options.model_name_or_path),
        "data": data,
        "opset": OPSET,
        "float_parity": dict(parity),
        "tools": {"bert-rt": bert_rt.__version__, "python": platform.python_version(), **_tools()},
    }


def _tools() -> dict[str, str]:
    versions = {}
    for name in _TOOLS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
