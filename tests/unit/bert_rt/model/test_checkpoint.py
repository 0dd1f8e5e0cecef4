"""Tests of checkpoint and weights: what is read, and what is written."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bert_rt.errors import CheckpointError
from bert_rt.model.checkpoint import (
    checkpoint_hash,
    label_names,
    read_config,
    read_tokenizer_files,
    save_checkpoint,
)
from bert_rt.model.heads import BertForPreTraining
from bert_rt.tasks.checkpoints import all_heads, load_model
from bert_rt.tasks.text_classification.model import BertForSequenceClassification
from tests.support.checkpoints import (
    CONFIG,
    WEIGHTS,
    edit_weights,
    save,
)


def contents(path: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a directory."""
    return {file.name: file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    "task", [name for name, head in all_heads().items() if head.fits(CONFIG.model_type)]
)
def test_save_load_save_is_byte_identical(task: str, tmp_path: Path) -> None:
    extra = {"id2label": {"0": "no", "1": "maybe", "2": "yes"}, "tie_word_embeddings": True}
    first = save(tmp_path / "first", task, **(extra if task == "text-classification" else {}))
    loaded = load_model(first)
    assert (loaded.task, loaded.config, loaded.new_keys) == (task, CONFIG, ())
    assert not loaded.model.training
    save_checkpoint(
        tmp_path / "second",
        loaded.model,
        loaded.config,
        tokenizer_files=read_tokenizer_files(first),
        extra=loaded.raw_config,
    )
    assert contents(first) == contents(tmp_path / "second")
    assert checkpoint_hash(first) == checkpoint_hash(tmp_path / "second")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]


def test_save_writes_what_transformers_wants_to_read(tmp_path: Path) -> None:
    raw = read_config(save(tmp_path / "c", "pretraining"))[1]
    assert raw["architectures"] == ["BertForPreTraining"]
    assert (raw["model_type"], raw["dtype"]) == ("bert", "float32")
    assert not any("decoder" in name for name in load_file(tmp_path / "c" / WEIGHTS))
    header = (tmp_path / "c" / WEIGHTS).read_bytes()[8:60]
    assert header.startswith(b'{"__metadata__":{"format":"pt"}')


def test_labels_are_kept_and_named(tmp_path: Path) -> None:
    plain = save(tmp_path / "plain", "text-classification")
    assert label_names(load_model(plain).raw_config) == ("LABEL_0", "LABEL_1", "LABEL_2")
    names = {"0": "no", "1": "maybe", "2": "yes"}
    raw = load_model(save(tmp_path / "named", "text-classification", id2label=names)).raw_config
    assert label_names(raw) == ("no", "maybe", "yes")
    assert raw["label2id"] == {"no": 0, "maybe": 1, "yes": 2}
    # Transformers would give a question-answering head as many outputs as there are labels.
    assert "id2label" not in read_config(save(tmp_path / "qa", id2label=names))[1]


def test_reading_the_config_loads_no_torch(tmp_path: Path) -> None:
    save(tmp_path / "c")
    code = (
        "import sys; from bert_rt.model.checkpoint import read_config; read_config(sys.argv[1]);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'safetensors')))"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "c"], check=True)


def test_hash_is_that_of_the_file(tmp_path: Path) -> None:
    path = save(tmp_path / "c")
    want = hashlib.sha256((path / WEIGHTS).read_bytes()).hexdigest()
    assert checkpoint_hash(path) == want


# Loading: layouts and key names that others write.


def assert_loads_as(path: Path, want: torch.nn.Module) -> None:
    got = load_model(path).model.state_dict()
    assert got.keys() == want.state_dict().keys()
    assert all(torch.equal(got[name], value) for name, value in want.state_dict().items())


def test_shards_are_read(tmp_path: Path) -> None:
    path = save(tmp_path / "c")
    want = load_model(path).model
    tensors = load_file(path / WEIGHTS)
    (path / WEIGHTS).unlink()
    names = sorted(tensors)
    shards = {"one.safetensors": names[:5], "two.safetensors": names[5:]}
    for shard, members in shards.items():
        save_file({name: tensors[name] for name in members}, path / shard)
    weight_map = {name: shard for shard, members in shards.items() for name in members}
    index = path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert_loads_as(path, want)
    joined = b"".join((path / shard).read_bytes() for shard in sorted(shards))
    assert checkpoint_hash(path) == hashlib.sha256(joined).hexdigest()
    for bad in ({"weight_map": {"x": "../c/one.safetensors"}}, {"weight_map": {"x": "three"}}):
        index.write_text(json.dumps(bad))
        with pytest.raises(CheckpointError, match="no file"):
            load_model(path)
    index.write_text('{"weight_map": [1]}')
    with pytest.raises(CheckpointError, match="no weight_map"):
        load_model(path)


@pytest.mark.parametrize("is_archive", [True, False])
def test_pickled_weights_are_read_but_nothing_else_is_unpickled(
    is_archive: bool, tmp_path: Path
) -> None:
    path = save(tmp_path / "c")
    want = load_model(path).model
    tensors = load_file(path / WEIGHTS)
    (path / WEIGHTS).unlink()
    file = path / "pytorch_model.bin"
    torch.save(tensors, file, _use_new_zipfile_serialization=is_archive)
    assert_loads_as(path, want)
    torch.save({"run": os.system}, file, _use_new_zipfile_serialization=is_archive)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_model(path)
    torch.save({"word": 1}, file, _use_new_zipfile_serialization=is_archive)
    with pytest.raises(CheckpointError, match="dictionary of tensors"):
        load_model(path)


def test_old_key_names_are_understood(tmp_path: Path) -> None:
    path = save(tmp_path / "c", "pretraining")
    want = load_model(path).model
    old = {}
    for name, value in load_file(path / WEIGHTS).items():
        short = name.removeprefix("bert.").replace("LayerNorm.weight", "LayerNorm.gamma")
        old[short.replace("LayerNorm.bias", "LayerNorm.beta")] = value
    old["embeddings.position_ids"] = torch.arange(16)
    old["cls.predictions.decoder.weight"] = old["embeddings.word_embeddings.weight"].clone()
    old["cls.predictions.decoder.bias"] = old.pop("cls.predictions.bias")
    save_file(old, path / WEIGHTS)
    assert_loads_as(path, want)


def test_half_precision_weights_become_float32(tmp_path: Path) -> None:
    path = save(tmp_path / "c")
    halves = {name: value.half() for name, value in load_file(path / WEIGHTS).items()}
    save_file(halves, path / WEIGHTS)
    state = load_model(path).model.state_dict()
    assert all(torch.equal(state[name], value.float()) for name, value in halves.items())


def test_a_pooler_left_over_is_ignored(tmp_path: Path) -> None:
    path = save(tmp_path / "c")
    edit_weights(path, bert__pooler__dense__bias=torch.zeros(8))
    assert load_model(path).unused_keys == ("bert.pooler.dense.bias",)


# Fine-tuning: another head than the file's.


def test_a_pretrained_encoder_gets_a_new_head(tmp_path: Path) -> None:
    path = save(tmp_path / "c", "pretraining")
    loaded = load_model(path, "text-classification", allow_new_head=True, num_labels=4)
    assert loaded.new_keys == ("classifier.bias", "classifier.weight")
    assert "cls.predictions.bias" in loaded.unused_keys
    assert isinstance(loaded.model, BertForSequenceClassification)
    assert loaded.model.classifier.weight.shape == (4, 8)
    assert 0.005 < loaded.model.classifier.weight.std() < 0.05  # about initializer_range
    assert not loaded.model.classifier.bias.any()
    want = load_file(path / WEIGHTS)["bert.pooler.dense.weight"]
    assert torch.equal(loaded.model.state_dict()["bert.pooler.dense.weight"], want)


def test_an_encoder_gets_pretraining_heads_tied_to_its_embeddings(tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "c", "encoder"), "pretraining", allow_new_head=True).model
    assert isinstance(model, BertForPreTraining)
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    assert all(torch.isfinite(value).all() for value in model.parameters())


def test_a_new_head_must_be_asked_for(tmp_path: Path) -> None:
    path = save(tmp_path / "c", "pretraining")
    wanted = (
        r"not a BertForQuestionAnswering: 2 missing keys \(qa_outputs.bias, qa_outputs.weig.*\)$"
    )
    with pytest.raises(CheckpointError, match=wanted):
        load_model(path, "question-answering")


def test_the_encoder_must_be_whole_in_any_case(tmp_path: Path) -> None:
    path = save(tmp_path / "c", "pretraining")
    edit_weights(path, bert__embeddings__LayerNorm__bias=None, bert__extra=torch.zeros(1))
    message = "1 missing keys .*LayerNorm.bias.* and 1 unexpected keys .*bert.extra"
    with pytest.raises(CheckpointError, match=message):
        load_model(path, "question-answering", allow_new_head=True)


# Errors.


# Saving, whole or not at all.


def test_a_crash_while_saving_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes = Path.write_bytes

    def write_half(self: Path, data: bytes) -> int:
        write_bytes(self, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write_half)
        with pytest.raises(CheckpointError, match=r"cannot be written: .*No space left"):
            save(tmp_path / "c")
    assert list(tmp_path.iterdir()) == []

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", stop)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


def test_saving_again_replaces_the_checkpoint_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "c", "encoder")
    (path / "metrics.jsonl").write_text("{}\n")
    before = contents(path)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(CheckpointError, match="cannot be written"):
            save(path)
    assert contents(path) == before
    save(path)
    assert load_model(path).task == "question-answering"
    assert contents(path)["metrics.jsonl"] == b"{}\n"
    assert contents(path).keys() == before.keys()
