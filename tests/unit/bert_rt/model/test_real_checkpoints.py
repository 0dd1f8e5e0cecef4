"""Tests of checkpoint and weights: files that others wrote in their own ways."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bert_rt.errors import CheckpointError, ConfigError
from bert_rt.model.checkpoint import (
    checkpoint_hash,
    label_names,
    problem_type,
    read_config,
    read_tokenizer_files,
    save_checkpoint,
)
from bert_rt.model.config import BertConfig
from bert_rt.tasks.checkpoints import load_model, task_of
from tests.support.checkpoints import WEIGHTS, edit_config, edit_weights, save
from tests.support.families import FAMILIES


def rename(path: Path, prefix: str) -> None:
    """Put a prefix in front of every weight's key."""
    tensors = {prefix + key: tensor for key, tensor in load_file(path / WEIGHTS).items()}
    save_file(tensors, path / WEIGHTS)


def assert_same_weights(got: Path, want: Path) -> None:
    ours, theirs = load_model(got).model.state_dict(), load_model(want).model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


# Weights.


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module._orig_mod."])
def test_what_wrappers_put_in_front_is_taken_off(prefix: str, tmp_path: Path) -> None:
    plain = save(tmp_path / "plain")
    wrapped = save(tmp_path / "wrapped")
    rename(wrapped, prefix)
    assert_same_weights(wrapped, plain)
    edit_weights(wrapped, qa_outputs__bias=torch.zeros(2))  # not before all of them
    with pytest.raises(CheckpointError, match="missing keys"):
        load_model(wrapped)


@pytest.mark.parametrize("index", ["model.safetensors.index.json", "pytorch_model.bin.index.json"])
def test_an_index_is_held_against_what_is_there(index: str, tmp_path: Path) -> None:
    path = save(tmp_path / "c")
    (path / WEIGHTS).unlink()
    for weight_map, message in (
        ({"x": "../other/w.bin"}, "no file '../other/w.bin' beside it"),
        ({"x": "w.bin"}, "no file 'w.bin' beside it"),
        ([1], "no weight_map"),
    ):
        (path / index).write_text(json.dumps({"weight_map": weight_map}))
        for function in (load_model, checkpoint_hash):
            with pytest.raises(CheckpointError, match=message):
                function(path)


def test_shards_are_not_unpickled_freely(tmp_path: Path) -> None:
    path = save(tmp_path / "c")
    (path / WEIGHTS).unlink()
    torch.save({"x": print}, path / "w.bin")
    index = {"weight_map": {"x": "w.bin"}}
    (path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"w\.bin: cannot be read"):
        load_model(path)


def test_one_weight_under_two_names_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "c")
    edit_weights(path, embeddings__LayerNorm__gamma=torch.ones(8))
    with pytest.raises(CheckpointError, match=r"got both .*LayerNorm\.(gamma|weight) and "):
        load_model(path)


def test_weights_of_other_programs_are_refused_by_name(tmp_path: Path) -> None:
    path = save(tmp_path / "c")
    tensors = load_file(path / WEIGHTS)
    save_file(tensors, path / WEIGHTS, metadata={"format": "tf"})
    with pytest.raises(CheckpointError, match="metadata format: got 'tf'"):
        load_model(path)
    (path / WEIGHTS).unlink()
    (path / "tf_model.h5").touch()
    with pytest.raises(CheckpointError, match=r"no weights in it, .*; got tf_model\.h5, which"):
        load_model(path)


@pytest.mark.parametrize(
    "key", ["bert.adapter.weight", "bert.encoder.layer.7.output.dense.bias", "crf.transitions"]
)
def test_what_is_no_known_head_is_an_error(key: str, tmp_path: Path) -> None:
    path = save(tmp_path / "c")
    edit_weights(path, **{key: torch.zeros(2)})
    with pytest.raises(CheckpointError, match=f"1 unexpected keys .{key}"):
        load_model(path)


def test_more_of_the_models_own_head_is_an_error(tmp_path: Path) -> None:
    path = save(tmp_path / "c", "text-classification")
    edit_weights(path, classifier__norm__weight=torch.ones(8))
    with pytest.raises(CheckpointError, match=r"unexpected keys \(classifier\.norm"):
        load_model(path)


def test_an_encoder_of_another_family_name_must_be_whole_too(tmp_path: Path) -> None:
    FAMILIES["roberta"].write_checkpoint(tmp_path / "c", "Model")
    edit_weights(tmp_path / "c", roberta__adapter__weight=torch.zeros(2))
    with pytest.raises(CheckpointError, match=r"unexpected keys \(roberta\.adapter"):
        load_model(tmp_path / "c", "question-answering", allow_new_head=True)


@pytest.mark.parametrize(
    ("family", "ending"),
    [
        ("bert-cased", "ForMaskedLM"),
        ("bert-cased", "ForNextSentencePrediction"),
        ("distilbert", "ForMaskedLM"),
        ("roberta", "ForMaskedLM"),
        ("roberta", "ForTokenClassification"),
        ("xlm-roberta", "ForMaskedLM"),
        ("camembert", "ForMaskedLM"),
        ("electra", "ForPreTraining"),
        ("electra", "ForMaskedLM"),
        ("electra", "ForMultipleChoice"),
    ],
)
def test_every_pretrained_class_is_a_start(
    family: str, ending: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = FAMILIES[family].write_checkpoint(tmp_path / "c", ending)
    for task in ("question-answering", "text-classification"):
        caplog.clear()
        loaded = load_model(tmp_path / "c", task, allow_new_head=True, num_labels=3)
        assert all(
            key.startswith(("bert.pooler.", "qa_", "classifier.")) for key in loaded.new_keys
        )
        assert sum("surplus" in record.getMessage() for record in caplog.records) <= 1
        words = loaded.model.state_dict()["bert.embeddings.word_embeddings.weight"]
        assert torch.equal(words, model.get_input_embeddings().weight)


def test_constants_and_heads_are_named_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = save(tmp_path / "c")
    buffers = {"embeddings__token_type_ids": torch.zeros(1, 16, dtype=torch.int64)}
    edit_weights(path, lm_head__bias=torch.zeros(20), **buffers)
    with caplog.at_level(logging.WARNING):
        loaded = load_model(path)
    assert loaded.unused_keys == ("bert.embeddings.token_type_ids", "lm_head.bias")
    (record,) = caplog.records
    message = "ignored 2 surplus keys (bert.embeddings.token_type_ids, lm_head.bias)"
    assert record.getMessage() == f"{path}: {message}"


# The configuration.


def test_a_config_is_read_as_others_write_it(tmp_path: Path) -> None:
    path = save(tmp_path / "c")
    text = (path / "config.json").read_text()
    odd = '{"x": NaN, "y": 1' + "0" * 5000 + ', "z": "\\ud800", "x": [' + "[" * 50 + "]" * 51 + ","
    (path / "config.json").write_bytes(b"\xef\xbb\xbf" + text.replace("{", odd, 1).encode())
    loaded = load_model(path)
    assert loaded.config == read_config(path)[0]
    # What is kept as it came can be read again.
    save_checkpoint(
        tmp_path / "again",
        loaded.model,
        loaded.config,
        tokenizer_files=read_tokenizer_files(path),
        extra=loaded.raw_config,
    )
    assert read_config(tmp_path / "again")[0] == loaded.config


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "1" + "0" * 5000, "1e400", '"8"', "true", "-1"]
)
def test_a_field_that_is_read_must_be_right(text: str, tmp_path: Path) -> None:
    path = save(tmp_path / "c")
    raw = (path / "config.json").read_text()
    (path / "config.json").write_text(raw.replace('"hidden_size": 8', f'"hidden_size": {text}'))
    with pytest.raises(CheckpointError, match=r"hidden_size: got .*, want an integer"):
        read_config(path)


def test_labels_are_read_for_classifiers_only(tmp_path: Path) -> None:
    path = save(tmp_path / "c")
    edit_config(path, id2label={"5": "x"}, problem_type="odd")
    assert load_model(path).task == "question-answering"
    with pytest.raises(CheckpointError, match="id2label"):
        load_model(path, "text-classification", allow_new_head=True)


@pytest.mark.parametrize(
    ("raw", "want"),
    [
        ({"id2label": None}, ("LABEL_0", "LABEL_1")),
        ({"id2label": None, "num_labels": 3}, ("LABEL_0", "LABEL_1", "LABEL_2")),
        ({"label2id": {"a": 0, "b": 1, "c": 2}}, ("LABEL_0", "LABEL_1")),
        ({"id2label": {"1": "b", "0": "a"}, "num_labels": 9}, ("a", "b")),
        ({"id2label": {1: "b", 0: "a"}}, ("a", "b")),
        ({"id2label": {"0": 5, "01": 7}}, ("5", "7")),
    ],
)
def test_names_of_classes(raw: dict[str, Any], want: tuple[str, ...]) -> None:
    assert label_names(raw) == want


@pytest.mark.parametrize(
    "raw",
    [
        {"id2label": {}},
        {"id2label": {"0": "a", "00": "b"}},
        {"id2label": {"a": "0"}},
        {"id2label": ["a", "b"]},
        {"num_labels": 0},
        {"num_labels": True},
        {"num_labels": 10**9},
        {"num_labels": 2.0},
    ],
)
def test_names_of_no_classes(raw: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: (id2label|num_labels): got"):
        label_names(raw)


def test_problem_type() -> None:
    assert problem_type({}) is problem_type({"problem_type": None}) is None
    assert problem_type({"problem_type": "regression"}) == "regression"
    with pytest.raises(CheckpointError, match="problem_type: got 'ranking', want one of single_"):
        problem_type({"problem_type": "ranking"})


def test_the_task_is_given_where_none_is_named() -> None:
    for names in (None, []):
        assert task_of({"architectures": names}, "text-classification") == "text-classification"
        with pytest.raises(CheckpointError, match=r"where none is named, give the task"):
            task_of({"architectures": names})
    named = {"architectures": ["RobertaForQuestionAnswering"]}
    assert task_of(named, "question-answering") == "question-answering"
    message = "got a model for question-answering, want one for text-classification"
    with pytest.raises(ConfigError, match=message):
        task_of(named, "text-classification")
    # Heads for tokens and for texts have the same names.
    with pytest.raises(ConfigError, match="got a model for token-classification, want one for te"):
        task_of({"architectures": ["BertForTokenClassification"]}, "text-classification")
    with pytest.raises(CheckpointError, match=r"got .'BertForMultipleChoice'.; supported"):
        task_of({"architectures": ["BertForMultipleChoice"]}, "text-classification")


@pytest.mark.parametrize(
    "name", ["gelu_new", "gelu_fast", "gelu_10", "gelu_pytorch_tanh", "gelu_accurate", "quick_gelu"]
)
@pytest.mark.parametrize(
    ("family", "field"), [("bert-cased", "hidden_act"), ("distilbert", "activation")]
)
def test_approximations_are_refused(name: str, family: str, field: str, tmp_path: Path) -> None:
    FAMILIES[family].config(20, **{field: name}).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=f"{field}: got '{name}', supported are 'gelu'"):
        read_config(tmp_path)


def test_token_types_that_a_model_takes() -> None:
    assert BertConfig(type_vocab_size=1).num_token_types == 1
    assert BertConfig(type_vocab_size=16).num_token_types == 2
    roberta = BertConfig(model_type="roberta", type_vocab_size=1, pad_token_id=1)
    assert roberta.num_token_types == 2  # it does not read them
    assert BertConfig(model_type="distilbert", type_vocab_size=0).num_token_types == 2
