"""Tests of checkpoint and weights: what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bert_rt.errors import CheckpointError, ConfigError
from bert_rt.model.checkpoint import checkpoint_hash, label_names, read_config, save_checkpoint
from bert_rt.tasks.checkpoints import build_model, load_model, task_of
from tests.support.checkpoints import CONFIG, WEIGHTS, edit_config, edit_weights, save


def test_wrong_shape_names_key_got_and_want(tmp_path: Path) -> None:
    path = save(tmp_path / "c")
    edit_weights(path, qa_outputs__bias=torch.zeros(3))
    with pytest.raises(CheckpointError, match=r"qa_outputs.bias: got .*\[3\], want .*\[2\]"):
        load_model(path)
    edit_weights(path, qa_outputs__bias=torch.zeros(2, dtype=torch.int64))
    with pytest.raises(CheckpointError, match=r"qa_outputs\.bias: got torch\.int64"):
        load_model(path)


def test_an_untied_decoder_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "c", "pretraining")
    edit_weights(path, cls__predictions__decoder__weight=torch.zeros(20, 8))
    with pytest.raises(CheckpointError, match="want them tied"):
        load_model(path)


def test_unusable_paths(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="absent: no such directory"):
        read_config(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="file: not a directory"):
        read_config(tmp_path / "file")
    with pytest.raises(CheckpointError, match="file: not a directory"):
        save(tmp_path / "file")
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        read_config(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"a": nan}', b"[" * 100_000])
def test_config_that_is_not_json(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json: not JSON"):
        read_config(tmp_path)


def test_config_that_is_no_object(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(CheckpointError, match="got a JSON list, want an object"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model_type", "gpt2", "model_type: got 'gpt2', supported are bert, roberta, "),
        (
            "hidden_act",
            "gelu_new",
            "hidden_act: got 'gelu_new', supported are 'gelu', 'gelu_",
        ),
        ("position_embedding_type", "relative_key", "got 'relative_key', supported is 'absolute'"),
        ("is_decoder", True, "is_decoder: got True, supported is False"),
        ("add_cross_attention", True, "add_cross_attention: got True"),
        ("hidden_size", "8", "hidden_size: got '8', want an integer"),
        ("num_attention_heads", 3, "want a multiple of num_attention_heads"),
    ],
)
def test_other_models_are_refused_by_name(
    name: str, value: Any, message: str, tmp_path: Path
) -> None:
    path = save(tmp_path / "c")
    edit_config(path, **{name: value})
    with pytest.raises(CheckpointError, match=message):
        read_config(path)


@pytest.mark.parametrize("names", [None, [], ["BertForMultipleChoice"], "BertModel", [[]]])
def test_task_needs_a_supported_architecture(names: Any) -> None:
    with pytest.raises(CheckpointError, match="supported are BertForQuestionAnswering, "):
        task_of({"architectures": names})


def test_unknown_task(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'translation'"):
        load_model(save(tmp_path / "c"), "translation")


@pytest.mark.parametrize("raw", [{"id2label": {"1": "a"}}, {"id2label": []}, {"num_labels": "2"}])
def test_labels_that_cannot_be_numbered(raw: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: (id2label|num_labels): got"):
        label_names(raw)


def test_labels_must_fit_the_classifier(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="id2label: got 1 names, want 3"):
        save(tmp_path / "c", "text-classification", id2label={"0": "a"})
    assert not (tmp_path / "c").exists()


def test_no_weights(tmp_path: Path) -> None:
    path = save(tmp_path / "c")
    (path / WEIGHTS).unlink()
    for function in (load_model, checkpoint_hash):
        with pytest.raises(CheckpointError, match=r"no weights in it, want model\.safetensors"):
            function(path)


@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_truncated_weights(keep: int, tmp_path: Path) -> None:
    path = save(tmp_path / "c")
    (path / WEIGHTS).write_bytes((path / WEIGHTS).read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_model(path)


def test_vocabulary_larger_than_the_model(tmp_path: Path) -> None:
    path = save(tmp_path / "c")
    (path / "tokenizer.json").write_text('{"model": {"vocab": {"a": 3, "b": 20}}}')
    with pytest.raises(CheckpointError, match=r"got 21 token ids, want at most vocab_size \(20\)"):
        load_model(path)
    (path / "tokenizer.json").write_text('{"model": {"vocab": {"a": "x"}}}')
    with pytest.raises(CheckpointError, match="no vocabulary in it"):
        load_model(path)
    (path / "tokenizer.json").unlink()
    (path / "vocab.txt").write_text("word\n" * 21)
    with pytest.raises(CheckpointError, match=r"vocab\.txt: got 21 token ids"):
        load_model(path)
    with pytest.raises(CheckpointError, match=r"vocab\.txt: got 21 token ids"):
        save_checkpoint(
            tmp_path / "new",
            build_model("encoder", CONFIG),
            CONFIG,
            tokenizer_files={"vocab.txt": b"word\n" * 21},
        )
    assert not (tmp_path / "new").exists()
