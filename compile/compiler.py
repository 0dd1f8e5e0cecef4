"""The whole compile in one view: checkpoint in, artifact out, or nothing.

load -> trace -> fuse -> compare with PyTorch -> quantize (compile.int8.recipe) -> gate -> write
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import logging
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch

import bert_rt
from bert_rt.api import Runtime
from bert_rt.artifact.artifact import (
    TOKENIZER_NAME,
    Artifact,
    check_output_dir,
    write_artifact,
)
from bert_rt.artifact.manifest import ManifestFields, ModelEntry
from bert_rt.engines.registry import engine_packages, judged_engines, missing
from bert_rt.errors import CalibrationError, CheckpointError, ConfigError, InputTooLongError
from bert_rt.model.checkpoint import checkpoint_hash
from bert_rt.model.config import BertConfig, to_dict
from bert_rt.support.faults import Dropped
from bert_rt.support.files import DirectoryState
from bert_rt.tasks.base import Limits
from bert_rt.text.tokenization import Tokenizer
from compile.graph.fuse import OPSET
from compile.int8.control import hold_out
from compile.int8.quantize import QuantConfig
from compile.int8.recipe import Compiled, quantize_within_bars
from compile.judge.gate import Verdict
from compile.judge.receipt import data_hash, float_engine, make_receipt, measure
from compile.judge.temperature import MIN_EXAMPLES, tune_temperature
from compile.judge.tokens import check_token_ids
from compile.report.changes import Change
from compile.report.report import render_report
from compile.tasks.base import CompileTask, Settings
from compile.tasks.registry import load_for_compiling

__all__ = ["CompileOptions", "compile_checkpoint"]

_log = logging.getLogger(__name__)
_TOOLS = ("onnxscript", "tokenizers", "numpy")  # besides what engines need


@dataclass(frozen=True, kw_only=True)
class CompileOptions:
    """What to compile, and how.

    Attributes:
        model_name_or_path: The checkpoint directory.
        output_dir: The artifact directory.
        task: What the model does, where config.json has no architectures; None for what it says.
        int8: Whether to quantize.
        calibration_file: Examples of the task that INT8 is calibrated on; never evaluated.
        eval_file: Those that the receipt and the gate are measured on.
        score_calibration_file: Those that the temperature of scores is fitted on; None for those of
            the calibration file that are set aside.
        settings: Limits, bars of the gate and layout of data files that the user gave.
        quant: How to quantize.
        drop_invalid: Whether examples that cannot be used are left out; else they are errors.
    """

    model_name_or_path: Path
    output_dir: Path
    task: str | None = None
    int8: bool = False
    calibration_file: Path | None = None
    eval_file: Path | None = None
    score_calibration_file: Path | None = None
    settings: Settings = field(default_factory=Settings)
    quant: QuantConfig = field(default_factory=QuantConfig)
    drop_invalid: bool = False

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
        ConfigError: A setting is out of range or means nothing for the checkpoint's task, or the
            checkpoint is for another task than the one given.
        InputError: A data file cannot be read.
        CompileError: The model cannot be compiled within what is wanted; nothing was written.
        ArtifactError: The artifact cannot be written, or another process has written there since
            this one began.
    """
    found = check_output_dir(options.output_dir)
    directory = options.model_name_or_path
    loaded, task = load_for_compiling(directory, options.task, options.settings)
    tokenizers = task.tokenizer_files(directory)
    architecture = task.architecture(loaded)
    _check_limits(task.limits, architecture)
    task.task.check_limits(task.limits, architecture)
    _check_weights(loaded.model)
    # Data first: a typing error in a path should not be reported after minutes of work.
    data, quant = _read(task, options), options.quant

    graphs = task.make_graphs(loaded, seed=quant.seed)
    fields = ManifestFields(
        task=task.task.name,
        limits=to_dict(task.limits),
        labels=task.labels,
        head=task.head_fields,
        architecture=architecture,
        precision="float32",
        models=graphs.entries,
        decoder=task.decoder_entry(loaded),
        fusions=graphs.fusions,
        provenance=_provenance(options, task, graphs.parity),
    )
    make_files = partial(_files, entries=graphs.entries, tokenizers=tokenizers)
    compiled = reference = _tuned(Compiled(make_files(graphs.models), fields, {}), task, data)
    if options.int8:
        float_graphs = task.float_graphs(loaded, graphs, data.calibration, tokenizers, quant)
        compiled = quantize_within_bars(
            float_graphs,
            reference.fields,
            quant,
            make_files=make_files,
            judge=_judge(reference, task, data),
            num_held_out=len(data.held_out),
        )
        # Quantization moves the scores that threshold and temperature are about.
        compiled = _tuned(compiled, task, data)
    tokenizer = tokenizers[TOKENIZER_NAME]
    changes = _measure(compiled, reference, task, data.evaluation, tokenizer, options)
    return _write(compiled, task, options, changes, found)


def _name_absent_engines() -> None:
    """Say on which engines INT8 is not measured."""
    for engine in judged_engines():
        reason = missing(engine)
        if reason is not None:
            _log.warning("%s: INT8 is not measured on it: %s", engine, reason)


def _read(task: CompileTask, options: CompileOptions) -> _Data:
    """Read all data files and check what they have in common."""

    def read(path: Path | None) -> list[Any]:
        return task.read(path, Dropped() if options.drop_invalid else None) if path else []

    if options.score_calibration_file is not None and not task.has_probabilities:
        raise ConfigError(
            f"score_calibration_file: got {options.score_calibration_file}, but the scores of this "
            "model are values, no probabilities that could be calibrated"
        )

    def apart(examples: list[Any], field: str) -> list[Any]:
        if options.drop_invalid:
            return task.without_shared(examples, evaluation, field=field)
        task.check_disjoint(examples, evaluation, field=field)
        return examples

    evaluation = read(options.eval_file)
    calibration = apart(read(options.calibration_file), "calibration_file")
    quant = options.quant
    calibration, held_out = hold_out(
        calibration, task.passage, num_held_out=quant.num_held_out, seed=quant.seed
    )
    if options.calibration_file is not None and task.tunes_limits and quant.num_held_out:
        task.check_held_out(held_out)
    if options.score_calibration_file is None:
        scored = held_out if task.has_probabilities else []
        return _Data(calibration, held_out, scored, evaluation)
    scored = apart(read(options.score_calibration_file), "score_calibration_file")
    if len(scored) < MIN_EXAMPLES:
        raise CalibrationError(
            f"score_calibration_file: got {len(scored)} examples, want at least {MIN_EXAMPLES}"
        )
    return _Data(calibration, held_out, scored, evaluation)


def _check_limits(limits: Limits, architecture: BertConfig) -> None:
    longest = architecture.max_sequence_length
    if limits.max_seq_length > longest:
        raise InputTooLongError(
            f"max_seq_length: got {limits.max_seq_length}, want at most the model's longest "
            f"sequence ({longest})"
        )


def _check_weights(model: torch.nn.Module) -> None:
    # Here and not by what they lead to: one row of a table is in no text that would be tried.
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise CheckpointError(f"{name}: got NaN or infinite values, want finite ones")


def _tuned(compiled: Compiled, task: CompileTask, data: _Data) -> Compiled:
    """Find what is set by examples and not by the user: limits, then temperature of scores."""
    fields = compiled.fields
    tuned = task.tune_limits(compiled.files, fields, data.held_out)
    if tuned is not None:
        fields = _with(fields, tuned.name, tuned.provenance, limits=to_dict(tuned.limits))
    if data.scored:
        found = tune_temperature(compiled.files, fields, data.scored, task.fit_temperature)
        is_own = data.scored is not data.held_out
        entry = {
            **dataclasses.asdict(found),
            "data": "score_calibration_file" if is_own else "calibration_file",
        }
        temperature = found.score_temperature
        fields = _with(fields, "score_calibration", entry, score_temperature=temperature)
    return replace(compiled, fields=fields)


def _with(fields: ManifestFields, name: str, entry: Any, **changes: Any) -> ManifestFields:
    """Change fields of the manifest, and say in its provenance why."""
    provenance = {**fields["provenance"], name: entry}
    return ManifestFields(**{**fields, **changes, "provenance": provenance})  # type: ignore[typeddict-item]


def _judge(
    reference: Compiled, task: CompileTask, data: _Data
) -> Callable[[Compiled], Verdict] | None:
    """Return what judges INT8 on examples that were set aside; None where there are none."""
    _name_absent_engines()
    held_out = data.held_out
    if not held_out:
        return None

    def score(compiled: Compiled, engine: str) -> Any:
        results = measure(compiled.artifact, held_out, engines=(engine,), score=task.evaluate)
        return results.get(engine)

    wanted = score(reference, float_engine())

    def judge(compiled: Compiled) -> Verdict:
        """Judge it on the engines that the gate asks, until one fails."""
        passed: list[Verdict] = []
        for engine in judged_engines():
            got = score(compiled, engine)
            if got is not None:
                verdict = task.judge(wanted, got, held_out)
                named = replace(verdict, summary=f"{engine}: {verdict.summary}")
                if not verdict.passes:
                    # Only where the evaluation file has the last word.
                    return replace(named, may_pass=named.may_pass and bool(data.evaluation))
                passed.append(named)
        assert passed, "the engine of the float model has judged it"
        summary = "; ".join(verdict.summary for verdict in passed)
        is_near = any(verdict.is_near for verdict in passed)
        return Verdict(True, summary, is_near, may_pass=True)

    return judge


def _measure(
    compiled: Compiled,
    reference: Compiled,
    task: CompileTask,
    evaluation: list[Any],
    tokenizer: Tokenizer,
    options: CompileOptions,
) -> dict[str, list[Change]]:
    """Add the self-test to the fields and, with an eval_file, the receipt; ask the gate.

    Returns what INT8 says otherwise than float, by engine.
    """
    artifact = compiled.artifact
    with Runtime.open(artifact, engine=float_engine()) as runtime:
        compiled.fields["self_test"] = task.golden_items(runtime)
        check_token_ids(compiled.fields["self_test"], runtime.task, tokenizer)
    if options.eval_file is None:
        return {}
    score = task.evaluate
    engine = float_engine()
    in_float = measure(reference.artifact, evaluation, engines=(engine,), score=score)[engine]
    int8 = measure(artifact, evaluation, score=score) if options.int8 else {}
    receipt = make_receipt(task, options.eval_file, evaluation, in_float, int8)
    if options.drop_invalid:
        # So that compile.verify reads the same examples.
        receipt["dataset"]["drop_invalid"] = True
    compiled.fields["receipt"] = receipt
    if options.int8:
        task.gate.check(receipt, {plan.name: plan.error for plan in compiled.plans.values()})
    return {engine: task.changes(in_float, result, evaluation) for engine, result in int8.items()}


def _write(
    compiled: Compiled,
    task: CompileTask,
    options: CompileOptions,
    changes: Mapping[str, list[Change]],
    found: DirectoryState,
) -> Artifact:
    fields = compiled.fields
    report = render_report(
        title=f"{options.model_name_or_path.resolve().name}, {fields['precision']}",
        fusions=fields["fusions"],
        provenance=fields["provenance"],
        receipt=fields.get("receipt"),
        plans=compiled.plans,
        gate=task.gate,
        changes=changes,
        quantization=fields.get("quantization", {}),
    )
    files = {**compiled.files, "report.html": report}
    return write_artifact(options.output_dir, files=files, unchanged_since=found, **fields)


def _files(
    models: Mapping[str, ir.Model],
    entries: Mapping[str, ModelEntry],
    tokenizers: Mapping[str, Tokenizer],
) -> dict[str, bytes]:
    files = {name: tokenizer.to_json() for name, tokenizer in tokenizers.items()}
    for name, model in models.items():
        proto = ir.to_proto(model)
        # The path of the machine that compiled is nobody's business, and would change the hash.
        proto.producer_name, proto.producer_version = "bert-rt", bert_rt.__version__
        files[entries[name].file] = proto.SerializeToString(deterministic=True)
    return files


def _provenance(
    options: CompileOptions, task: CompileTask, parity: Mapping[str, float]
) -> dict[str, Any]:
    fits_scores = task.has_probabilities and options.score_calibration_file is None
    fits_scores = fits_scores and options.quant.num_held_out > 0
    is_calibrated = options.int8 or task.tunes_limits or fits_scores
    data = {
        name: {"name": path.name, "sha256": data_hash(*task.data_files(path))}
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
    for name in (*_TOOLS, *engine_packages()):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
