"""Every architecture against Transformers, from its checkpoint to INT8 on every engine."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from numpy.typing import NDArray

from bert_rt.artifact.artifact import Artifact, ManifestFields, write_artifact
from bert_rt.artifact.manifest import ModelEntry
from bert_rt.engines.base import EngineOptions
from bert_rt.engines.native import NativeEngine
from bert_rt.engines.packing import pack, pad, unpad
from bert_rt.engines.registry import missing, open_engine
from bert_rt.model.checkpoint import LoadedModel, checkpoint_hash, save_checkpoint
from bert_rt.model.config import to_dict
from bert_rt.tasks.checkpoints import load_model
from bert_rt.tasks.question_answering.features import make_features
from bert_rt.tasks.registry import find_task
from bert_rt.tasks.text_classification.sequences import make_sequence
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import PackedBatch, TokenSequence
from compile.graph.fuse import fuse
from compile.graph.linear import find_linear_layers
from compile.graph.trace import trace
from compile.int8.calibrate import observe
from compile.int8.drives import SequenceDrive
from compile.int8.quantize import plan_layers, quantize
from compile.tasks.base import Settings
from compile.tasks.registry import COMPILE_TASKS
from tests.kernels.support import ISAS
from tests.parity.test_native import MAX_INT8_DIFFERENCE
from tests.support.families import FAMILIES
from tests.tolerances import FLOAT32_ATOL
from tests.unit.compile import tiny

Logits = NDArray[np.float32]

WORDS = "token-classification"
ENDINGS = {
    "question-answering": "ForQuestionAnswering",
    "text-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    "encoder": "Model",
}
# Each architecture's own arithmetic once, since tracing takes seconds: no token types; positions
# behind padding and one token type; narrow embeddings, and a classifier with another activation.
COMPILED = [
    ("distilbert", "question-answering"),
    ("roberta", "question-answering"),
    ("electra", "question-answering"),
    ("electra", "text-classification"),
    ("roberta", "token-classification"),
    ("electra", "token-classification"),
]
HEADS = [(name, task) for name in FAMILIES for task in ("question-answering", WORDS)] + [
    (name, task)
    for name in ("distilbert", "roberta", "electra")
    for task in ("text-classification", "encoder")
]
CONTEXT = "The cat sat on the mat in Paris, caf\u00e9 42; who is unaffable? " * 3
QUESTIONS = ("who sat on the mat?", "where is the cat", "42?")


def windows(tokenizer: Tokenizer, task: str) -> list[TokenSequence]:
    """Return inputs of many lengths, special tokens and all."""
    ids = {
        "cls_id": tokenizer.cls_id,
        "sep_id": tokenizer.sep_id,
        "num_separators": tokenizer.num_separators,
    }
    pairs = [(tokenizer.encode(q), tokenizer.encode(CONTEXT[i:])) for i, q in enumerate(QUESTIONS)]
    if task == "question-answering":
        made = [make_features(0, *pair, config=tiny.LIMITS, **ids) for pair in pairs]
        return [window for one in made for window in one]
    length = tiny.LIMITS.max_seq_length
    singles = [make_sequence(question, max_seq_length=length, **ids) for question, _ in pairs]
    return singles + [make_sequence(*pair, max_seq_length=length, **ids) for pair in pairs]


def make_batch(tokenizer: Tokenizer, task: str) -> PackedBatch:
    return pack(windows(tokenizer, task), max_tokens=2**16)


def theirs_logits(model: Any, loaded: LoadedModel, batch: PackedBatch) -> Logits:
    """Return what Transformers computes, as engines give it: (2, T), (B, C) or (T, C)."""
    feeds = [torch.from_numpy(array) for array in pad(batch, loaded.config.pad_token_id)]
    names = ["input_ids", "attention_mask", "token_type_ids"]
    if not loaded.config.uses_token_types:
        names.pop()
    with torch.inference_mode():
        result = model(**dict(zip(names, feeds, strict=False)))
    if loaded.task != "question-answering":
        logits: Logits = result.logits.numpy()
        return unpad(logits, batch.cu_seqlens) if loaded.task == WORDS else logits
    pair = (result.start_logits.numpy(), result.end_logits.numpy())
    return np.stack([unpad(array, batch.cu_seqlens) for array in pair])


def run(artifact: Artifact, engine: str, batch: PackedBatch, checkpoint: Path) -> Logits:
    assert missing(engine, artifact, EngineOptions(checkpoint=str(checkpoint))) is None
    head = find_task(artifact.manifest.task).head_spec
    opened = open_engine(engine, artifact, EngineOptions("cpu", 1, str(checkpoint), head))
    return _stacked(opened.run(batch))


def _stacked(logits: Any) -> Logits:
    if "start_logits" in logits:
        return np.stack([logits["start_logits"], logits["end_logits"]])
    result: Logits = logits["logits"]
    return result


@dataclass(frozen=True)
class Compiled:
    """What is made of one checkpoint."""

    checkpoint: Path
    batch: PackedBatch
    wanted: Logits
    float_artifact: Artifact
    int8_artifact: Artifact


@functools.cache
def directory() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="bert-rt-test-")


@functools.cache
def compiled(name: str, task: str) -> Compiled:
    place = Path(directory().name) / f"{name}-{task}"
    theirs = FAMILIES[name].write_checkpoint(place / "checkpoint", ENDINGS[task])
    loaded = load_model(place / "checkpoint")
    tokenizer = Tokenizer.from_directory(place / "checkpoint")
    batch = make_batch(tokenizer, task)
    model = trace(loaded)
    head = COMPILE_TASKS[loaded.task].for_model(loaded, Settings()).graph_head(loaded.config)
    fusions = fuse(model, loaded.config, head)
    layers = [layer for layer in find_linear_layers(model) if layer.is_encoder]
    samples, silent = windows(tokenizer, task), tiny.Silent()
    observers = observe(
        model,
        layers,
        SequenceDrive(samples, tokenizer.pad_id),
        max_rows=512,
        seed=0,
        progress=silent,
    )
    fields = ManifestFields(
        task=task,
        architecture=loaded.config,
        precision="float32",
        limits=to_dict(tiny.LIMITS),
        labels=() if task == "question-answering" else ("no", "yes"),
        models={"model": ModelEntry(file="model.onnx", outputs=loaded.model.spec.outputs)},
        fusions=fusions,
        provenance={"checkpoint_sha256": checkpoint_hash(place / "checkpoint")},
    )
    files = {"model.onnx": tiny.to_bytes(model), "tokenizer.json": tokenizer.to_json()}
    float_artifact = write_artifact(place / "float", files=files, **fields)
    plans = plan_layers(layers, observers, tiny.QUANT, silent)
    files["model.onnx"] = tiny.to_bytes(quantize(model, plans))
    fields["precision"] = "int8"
    int8_artifact = write_artifact(place / "int8", files=files, **fields)
    wanted = theirs_logits(theirs, loaded, batch)
    return Compiled(place / "checkpoint", batch, wanted, float_artifact, int8_artifact)


def difference(one: Logits, other: Logits) -> float:
    """Return the root of the mean squared difference, as a share of the logits' own spread."""
    return float(np.sqrt(np.square(one - other).mean()) / other.std())


@pytest.mark.parametrize(("name", "task"), HEADS)
def test_weights_are_read_and_written_as_in_transformers(
    name: str, task: str, tmp_path: Path
) -> None:
    theirs = FAMILIES[name].write_checkpoint(tmp_path / "theirs", ENDINGS[task])
    loaded = load_model(tmp_path / "theirs")
    assert (loaded.task, loaded.new_keys, loaded.unused_keys) == (task, (), ())
    assert loaded.config.model_type == theirs.config.model_type

    shape = (3, loaded.config.max_sequence_length)
    generator = torch.Generator().manual_seed(3)
    input_ids = torch.randint(5, loaded.config.vocab_size, shape, generator=generator)
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1, 9:] = 0
    input_ids[1, 9:] = loaded.config.pad_token_id  # Positions count on in ours, unseen.
    types = torch.randint(0, 2, shape, generator=generator)
    named = {"input_ids": input_ids, "attention_mask": attention_mask}
    if loaded.config.uses_token_types:
        named["token_type_ids"] = types
    with torch.inference_mode():
        got = loaded.model(input_ids, attention_mask, types)
        want = theirs(**named).to_tuple()
    got = (got,) if isinstance(got, torch.Tensor) else tuple(x for x in got if x is not None)
    for mine, his in zip(got, want, strict=True):
        if mine.shape[:2] == shape:  # what stands at padding means nothing
            mine, his = mine[attention_mask > 0], his[attention_mask > 0]
        torch.testing.assert_close(mine, his, atol=FLOAT32_ATOL, rtol=0)

    save_checkpoint(
        tmp_path / "ours", loaded.model, loaded.config, tokenizer_files={}, extra=loaded.raw_config
    )
    again, info = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info.values()), info
    assert again.state_dict().keys() == theirs.state_dict().keys()
    for key, tensor in theirs.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], tensor, atol=0, rtol=0)
    differing = {
        key
        for key, value in theirs.config.to_dict().items()
        if again.config.to_dict().get(key) != value
    }
    assert differing <= {"_name_or_path", "dtype", "transformers_version"}


@pytest.mark.parametrize("name", ["distilbert", "roberta", "electra"])
def test_a_pretrained_encoder_starts_a_classifier(name: str, tmp_path: Path) -> None:
    FAMILIES[name].write_checkpoint(tmp_path / "c", "ForMaskedLM")
    loaded = load_model(tmp_path / "c", "text-classification", allow_new_head=True)
    assert set(loaded.new_keys) == {
        "bert.pooler.dense.bias",
        "bert.pooler.dense.weight",
        "classifier.bias",
        "classifier.weight",
    }
    assert loaded.unused_keys and not any(key.startswith("bert.") for key in loaded.unused_keys)


@pytest.mark.parametrize(("name", "task"), COMPILED)
@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "openvino", "reference"])
def test_float_is_what_transformers_computes(name: str, task: str, engine: str) -> None:
    made = compiled(name, task)
    got = run(made.float_artifact, engine, made.batch, made.checkpoint)
    assert made.wanted.std() > 1000 * FLOAT32_ATOL
    np.testing.assert_allclose(got, made.wanted, rtol=0, atol=FLOAT32_ATOL)


@pytest.mark.parametrize(("name", "task"), COMPILED)
@pytest.mark.parametrize("engine", ["openvino", "native"])
def test_engines_agree_in_int8(name: str, task: str, engine: str) -> None:
    made = compiled(name, task)
    want = run(made.int8_artifact, "onnxruntime", made.batch, made.checkpoint)
    got = run(made.int8_artifact, engine, made.batch, made.checkpoint)
    assert difference(got, want) < MAX_INT8_DIFFERENCE
    assert difference(want, made.wanted) < 2 * MAX_INT8_DIFFERENCE


def test_nothing_is_smoothed_behind_projected_embeddings() -> None:
    # OpenVINO 2026.4 would scale what the residual connection reads, too.
    made = compiled("electra", "question-answering")
    graph = onnx.load_from_string(made.int8_artifact.read("model.onnx")).graph
    makers = {output: node for node in graph.node for output in node.output}
    quantized = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    sources = [makers[node.input[0]].op_type for node in quantized]
    assert sources[0] == "Add" and "Mul" in sources
    assert makers[quantized[0].input[0]].name == "embeddings_project.add"


@pytest.mark.parametrize(("name", "task"), COMPILED)
def test_native_is_the_same_on_every_instruction_set_and_alone(name: str, task: str) -> None:
    made = compiled(name, task)
    model = made.int8_artifact.read("model.onnx")
    results = [
        _stacked(NativeEngine(model, num_threads=threads, isa=isa).run(made.batch))
        for threads, isa in [(1, isa) for isa in ISAS] + [(3, "")]
    ]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
    last = made.batch.cu_seqlens[-2]
    alone = PackedBatch(
        input_ids=made.batch.input_ids[last:],
        token_type_ids=made.batch.token_type_ids[last:],
        cu_seqlens=made.batch.cu_seqlens[-2:] - last,
        max_seqlen=made.batch.max_seqlen,
    )
    got = _stacked(NativeEngine(model, num_threads=1).run(alone))
    ours = {"text-classification": np.s_[-1:], WORDS: np.s_[last:]}
    want = results[0][ours.get(task, np.s_[:, last:])]
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "native", "torch"])
def test_token_types_do_not_matter_where_there_are_none(engine: str) -> None:
    made = compiled("distilbert", "question-answering")
    artifact = made.float_artifact if engine == "torch" else made.int8_artifact
    want = run(artifact, engine, made.batch, made.checkpoint)
    other = PackedBatch(
        input_ids=made.batch.input_ids,
        token_type_ids=1 - made.batch.token_type_ids,
        cu_seqlens=made.batch.cu_seqlens,
        max_seqlen=made.batch.max_seqlen,
    )
    np.testing.assert_array_equal(run(artifact, engine, other, made.checkpoint), want)


def test_a_window_is_what_the_tokenizer_of_transformers_makes() -> None:
    made = compiled("roberta", "question-answering")
    theirs = transformers.AutoTokenizer.from_pretrained(made.checkpoint)
    wanted = theirs(QUESTIONS[2], "the cat")["input_ids"]
    tokenizer = Tokenizer.from_directory(made.checkpoint)
    (window,) = make_features(
        0,
        tokenizer.encode(QUESTIONS[2]),
        tokenizer.encode("the cat"),
        config=tiny.LIMITS,
        cls_id=tokenizer.cls_id,
        sep_id=tokenizer.sep_id,
        num_separators=tokenizer.num_separators,
    )
    assert window.input_ids.tolist() == wanted
    assert wanted.count(tokenizer.sep_id) == 3
