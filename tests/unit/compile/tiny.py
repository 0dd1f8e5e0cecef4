"""A tiny BERT with random weights, traced and fused once for all tests of compile.

What is kept between tests is bytes: a graph that one test rewrites is not the next one's.
"""

from __future__ import annotations

import atexit
import dataclasses
import functools
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from bert_rt.api import Runtime
from bert_rt.engines.onnxruntime import open_session
from bert_rt.model.checkpoint import LoadedModel, save_checkpoint
from bert_rt.model.config import BertConfig
from bert_rt.tasks.checkpoints import build_model, load_model
from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.tasks.question_answering.squad import SquadExample
from bert_rt.types import Feature
from compile.export import main
from compile.graph.fuse import fuse
from compile.graph.linear import find_linear_layers
from compile.graph.trace import INPUT_NAMES, trace
from compile.int8.calibrate import Observer, observe
from compile.int8.drives import SequenceDrive
from compile.int8.quantize import QuantConfig, plan_layers, quantize
from compile.int8.search import LayerPlan
from compile.tasks.question_answering import calibration_features
from tests.support.data.text import VOCAB, make_tokenizer, write_vocab

CONFIG = BertConfig(
    vocab_size=len(VOCAB),
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=64,
)
LIMITS = AnsweringConfig(max_seq_length=48, doc_stride=12, max_query_length=16, max_answer_length=8)
QUANT = QuantConfig(num_samples=12, max_rows=512)
NUM_LAYERS = CONFIG.num_hidden_layers
ENCODER_LINEARS = tuple(
    f"encoder.layer.{number}.{place}"
    for number in range(NUM_LAYERS)
    for place in (
        "attention.self.qkv",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    )
)
# One channel behind each GELU is this much larger than the others.
OUTLIER_CHANNEL, OUTLIER_FACTOR = 5, 20.0

_WORDS = (
    "the",
    "cat",
    "sat",
    "on",
    "mat",
    "in",
    "paris",
    "who",
    "is",
    "unaff",
    "a",
    "x",
    "42",
    ".",
)


class Silent:
    """Progress that nobody sees, and that counts."""

    def __init__(self) -> None:
        self.count = 0

    def advance(self, count: int = 1, note: str = "") -> None:
        self.count += count


def make_model(
    task: str = "question-answering", *, seed: int = 1, num_labels: int = 2
) -> torch.nn.Module:
    """Make a model in which every parameter matters: no bias is 0, and no norm is plain."""
    with torch.random.fork_rng(), torch.no_grad():
        generator = torch.manual_seed(seed)
        model = build_model(task, CONFIG, num_labels).eval()
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
        for name, parameter in model.named_parameters():
            # A GELU with a large input passes it on: an outlier channel, and a weight as before.
            if name.endswith("intermediate.dense.bias"):
                parameter[OUTLIER_CHANNEL] = OUTLIER_FACTOR
    return model


@functools.cache
def loaded_model() -> LoadedModel:
    """Return the tiny model as load_model would."""
    model: Any = make_model()
    return LoadedModel(model, CONFIG, {}, (), ())


@functools.cache
def traced_bytes() -> bytes:
    """Return the traced graph's bytes."""
    return to_bytes(trace(loaded_model()))


@functools.cache
def fused_bytes() -> bytes:
    """Return the fused graph's bytes."""
    model = traced()
    fuse(model, CONFIG)
    return to_bytes(model)


def to_bytes(model: ir.Model) -> bytes:
    """Serialize a graph."""
    data: bytes = ir.to_proto(model).SerializeToString(deterministic=True)
    return data


def traced() -> ir.Model:
    """Return the traced graph, the caller's own."""
    return ir.from_proto(onnx.load_from_string(traced_bytes()))


def fused() -> ir.Model:
    """Return the fused graph, the caller's own."""
    return ir.from_proto(onnx.load_from_string(fused_bytes()))


def examples(count: int, *, seed: int = 0, prefix: str = "") -> list[SquadExample]:
    """Make questions over passages of the tokenizer's words, two questions a passage."""
    random = np.random.default_rng(seed)
    result = []
    for index in range(count):
        if index % 2 == 0:
            words = random.choice(_WORDS, random.integers(5, 60))
            context = f"{prefix}{index} " + " ".join(words)
        question = " ".join(random.choice(_WORDS, 5)) + "?"
        result.append(SquadExample(f"q{index}", "", question, context, (), (), True))
    return result


@functools.cache
def features() -> tuple[Feature, ...]:
    """Return windows to calibrate on."""
    return tuple(
        calibration_features(
            examples(40), make_tokenizer(), LIMITS, num_samples=QUANT.num_samples, seed=0
        )
    )


@functools.cache
def observers() -> Mapping[str, Observer]:
    """Return what the encoder's linear layers get to see."""
    model = fused()
    layers = [layer for layer in find_linear_layers(model) if layer.is_encoder]
    return observe(
        model, layers, SequenceDrive(features(), 0), max_rows=512, seed=0, progress=Silent()
    )


@functools.cache
def plans() -> Mapping[str, LayerPlan]:
    """Return the quantization of every encoder layer."""
    layers = [layer for layer in find_linear_layers(fused()) if layer.is_encoder]
    return plan_layers(layers, observers(), QUANT, Silent())


@functools.cache
def int8_bytes() -> bytes:
    """Return the quantized model's bytes."""
    return to_bytes(quantize(fused(), plans()))


def make_feeds(batch_size: int, length: int, *, seed: int = 0) -> dict[str, NDArray[np.int64]]:
    """Return random inputs; the masks have holes, and no row masks its first token."""
    random = np.random.default_rng(seed)
    shape = (batch_size, length)
    attention_mask = random.integers(0, 2, shape)
    attention_mask[::3] = 1
    attention_mask[:, 0] = 1
    return {
        "input_ids": random.integers(0, CONFIG.vocab_size, shape),
        "attention_mask": attention_mask,
        "token_type_ids": random.integers(0, CONFIG.type_vocab_size, shape),
    }


def torch_logits(
    model: torch.nn.Module, feeds: Mapping[str, NDArray[np.int64]]
) -> NDArray[np.float32]:
    """Return start and end logits of shape (2, B, S) as PyTorch computes them."""
    with torch.inference_mode():
        pair = model(*(torch.from_numpy(feeds[name]) for name in INPUT_NAMES))
    return np.stack([logits.numpy() for logits in pair])


def ort_logits(model: bytes, feeds: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
    """Return start and end logits of shape (2, B, S) as ONNX Runtime computes them."""
    return np.stack(_session(model).run(["start_logits", "end_logits"], dict(feeds)))


@functools.lru_cache(maxsize=8)
def _session(model: bytes) -> Any:
    return open_session(model, num_threads=1)


def openvino_logits(model: bytes, feeds: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
    """Return start and end logits of shape (2, B, S) as OpenVINO computes them."""
    results = openvino_model(model)(dict(feeds))
    return np.stack([results[name] for name in ("start_logits", "end_logits")])


@functools.lru_cache(maxsize=8)
def openvino_model(model: bytes) -> Any:
    """Compile a model for the CPU, as the engine does."""
    from bert_rt.engines.openvino import _core, _settings

    core = _core()
    return core.compile_model(core.read_model(model), "CPU", _settings("CPU", 1))


LIMIT_FLAGS = (
    *("--max_seq_length", str(LIMITS.max_seq_length)),
    *("--doc-stride", str(LIMITS.doc_stride)),
    *("--max_query_length", str(LIMITS.max_query_length)),
    *("--max_answer_length", str(LIMITS.max_answer_length)),
)


@dataclass(frozen=True)
class Exports:
    """What the command has made of the tiny checkpoint, and of what."""

    checkpoint: Path
    calibration_file: Path
    eval_file: Path
    float_dir: Path
    int8_dir: Path


@functools.cache
def exports() -> Exports:
    """Return the float artifact, without a receipt, and the INT8 one, with a receipt.

    The gold answers of the evaluation file are what the float model says, so that its F1 is 100
    and INT8's tells how often it says something else.
    """
    directory = Path(tempfile.mkdtemp(prefix="bert-rt-test-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    made = Exports(
        checkpoint=write_checkpoint(directory / "checkpoint"),
        calibration_file=write_squad(directory / "calibration.json", examples(40)),
        eval_file=directory / "evaluation.json",
        float_dir=directory / "float",
        int8_dir=directory / "int8",
    )
    common = ["--model_name_or_path", str(made.checkpoint), *LIMIT_FLAGS]
    assert main([*common, "--output_dir", str(made.float_dir)]) == 0
    asked = examples(200, seed=9, prefix="dev ")
    with Runtime.load(made.float_dir, engine="onnxruntime") as runtime:
        answers = runtime.answer_batch([(e.question, e.context) for e in asked])
    gold = [
        dataclasses.replace(e, answers=(a.text,), answer_starts=(a.start,), is_impossible=False)
        for e, a in zip(asked, answers, strict=True)
    ]
    write_squad(made.eval_file, gold)
    bars = ["--min_f1_ratio", "0.5", "--max_f1_loss", "50"]
    arguments = ["--output_dir", str(made.int8_dir), *int8_flags(made), *bars]
    assert main([*common, *arguments]) == 0
    return made


def int8_flags(made: Exports) -> list[str]:
    """Return the flags that ask for INT8 with a receipt."""
    files = ["--calibration_file", str(made.calibration_file), "--eval_file", str(made.eval_file)]
    return ["--int8", *files]


def write_squad(path: Path, asked: Sequence[SquadExample]) -> Path:
    """Write questions in the form of SQuAD 1.1."""
    by_context: dict[str, list[dict[str, Any]]] = {}
    for example in asked:
        gold = [
            {"text": text, "answer_start": start}
            for text, start in zip(example.answers, example.answer_starts, strict=True)
        ]
        entry = {"id": example.id, "question": example.question, "answers": gold}
        by_context.setdefault(example.context, []).append(entry)
    paragraphs = [{"context": context, "qas": qas} for context, qas in by_context.items()]
    path.write_text(json.dumps({"data": [{"title": "tiny", "paragraphs": paragraphs}]}))
    return path


def write_checkpoint(directory: Path, model: Any = None, config: BertConfig = CONFIG) -> Path:
    """Write the tiny checkpoint, tokenizer included."""
    directory.mkdir(parents=True)
    write_vocab(directory)
    files = {"vocab.txt": (directory / "vocab.txt").read_bytes()}
    save_checkpoint(directory, model or make_model(), config, tokenizer_files=files)
    assert load_model(directory).config == config
    return directory
