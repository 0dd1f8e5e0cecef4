"""Unit tests of bert_rt.model.architectures, and of what other modules make of its rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bert_rt.artifact.artifact import build_artifact
from bert_rt.artifact.manifest import manifest_from_json, manifest_to_json
from bert_rt.errors import ArtifactFormatError, CheckpointError, ConfigError
from bert_rt.model.architectures import ARCHITECTURES, supported_model_types
from bert_rt.model.checkpoint import read_config, save_checkpoint
from bert_rt.model.config import BertConfig, from_dict, to_dict
from bert_rt.model.head import ENCODER
from bert_rt.model.heads import BertForPreTraining
from bert_rt.tasks.checkpoints import all_heads, build_model, task_of
from tests.unit.bert_rt.artifact.artifact_samples import FILES, sample_fields

SIZES: dict[str, Any] = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 10,
}
EXTRAS: dict[str, dict[str, Any]] = {
    "distilbert": {"type_vocab_size": 0},
    "electra": {"embedding_size": 4},
    "roberta": {"type_vocab_size": 1, "pad_token_id": 1},
}


def config_of(model_type: str, **more: Any) -> BertConfig:
    return BertConfig(model_type=model_type, **{**SIZES, **EXTRAS.get(model_type, {}), **more})


def write_config(directory: Path, **values: Any) -> Path:
    (directory / "config.json").write_text(json.dumps(values))
    return directory


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_every_weight_has_one_name_on_either_side(model_type: str) -> None:
    config = config_of(model_type)
    row = config.architecture
    for head in all_heads().values():
        if not head.fits(model_type):
            continue
        model = build_model(head.name, config, device="meta")
        base = "" if hasattr(model, "bert") else "bert."
        bert_keys = [base + key for key in model.state_dict()]
        own_keys = [row.from_bert_key(key, head) for key in bert_keys]
        assert len(set(own_keys)) == len(own_keys)
        assert [row.to_bert_key(key, head) for key in own_keys] == bert_keys
        # A bare encoder's file has no prefix.
        bare = [key.removeprefix(f"{row.prefix}.") for key in own_keys]
        if head.name == "encoder":
            assert [row.to_bert_key(key, head) for key in bare] == bert_keys


def test_class_names_are_those_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    for model_type, row in ARCHITECTURES.items():
        heads = [head for head in all_heads().values() if head.fits(model_type)]
        assert len(heads) == (6 if model_type == "bert" else 5)
        for head in heads:
            if head.name == "summarization":  # Transformers has no class of this kind
                continue
            assert all(hasattr(transformers, name) for name in row.class_names(head))


# Not compared with Transformers: given in both, or fields that it does not have.
OURS = {"model_type", "vocab_size", "num_split_layers", "passage_position_offset"}


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_defaults_are_those_of_transformers(model_type: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    row = ARCHITECTURES[model_type]
    theirs = getattr(transformers, f"{row.class_prefix}Config")()
    config, _ = read_config(write_config(tmp_path, model_type=model_type))
    for name in to_dict(config).keys() - row.fixed.keys() - OURS:
        if name == "embedding_size" and not row.has_embedding_size:
            continue
        assert getattr(config, name) == getattr(theirs, row.config_names.get(name, name)), name


def test_a_name_of_another_architecture_is_not_read(tmp_path: Path) -> None:
    path = write_config(tmp_path, model_type="distilbert", hidden_size=8, dim=24, n_heads=2)
    assert read_config(path)[0].hidden_size == 24
    path = write_config(tmp_path, model_type="bert", embedding_size=4)
    assert read_config(path)[0].embedding_size is None


def test_another_activation_is_refused_by_its_own_name(tmp_path: Path) -> None:
    path = write_config(tmp_path, model_type="distilbert", activation="relu")
    with pytest.raises(CheckpointError, match="activation: got 'relu', supported are 'gelu', "):
        read_config(path)


@pytest.mark.parametrize("model_type", ["gpt2", "albert", "mpnet", 3, ["bert"]])
def test_other_architectures_are_refused_with_the_list_of_those_supported(
    model_type: Any, tmp_path: Path
) -> None:
    path = write_config(tmp_path, model_type=model_type)
    with pytest.raises(CheckpointError) as raised:
        read_config(path)
    assert f"model_type: got {model_type!r}, supported are {supported_model_types()}" in str(
        raised.value
    )


def test_tasks_are_found_by_class_names() -> None:
    assert task_of({"architectures": ["XLMRobertaForQuestionAnswering"]}) == "question-answering"
    assert task_of({"architectures": ["ElectraForSequenceClassification"]}) == "text-classification"
    assert task_of({"architectures": ["DistilBertModel"]}) == "encoder"
    assert task_of({"architectures": ["RobertaForTokenClassification"]}) == "token-classification"
    assert [*all_heads()] == [
        "question-answering",
        "text-classification",
        "token-classification",
        "summarization",
        "translation",
        "encoder",
        "pretraining",
    ]
    with pytest.raises(CheckpointError, match=r"'RobertaForMaskedLM'.*supported are .*Electra"):
        task_of({"architectures": ["RobertaForMaskedLM"]})


def test_a_task_that_an_architecture_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'pretraining'.*no model.*electra has question-answ"):
        build_model("pretraining", config_of("electra"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "gpt2"}, "model_type: got 'gpt2', want one of bert, roberta"),
        ({"model_type": []}, r"model_type: got \[\]"),
        ({"model_type": "bert", "embedding_size": 4}, "embedding_size: got 4, want None for bert"),
        ({"model_type": "electra", "embedding_size": 0}, "embedding_size: got 0, want an integer"),
        ({"model_type": "distilbert"}, "type_vocab_size: got 2, want an integer from 0 to 0"),
        ({"model_type": "roberta", "type_vocab_size": 0}, "type_vocab_size: got 0"),
        (
            {"model_type": "roberta", "pad_token_id": 9},
            "max_position_embeddings: got 10, want more than 10, where the positions of roberta",
        ),
    ],
)
def test_contradictions_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BertConfig(**{**SIZES, **values})


def test_what_follows_from_an_architecture() -> None:
    roberta, distilbert = config_of("roberta"), config_of("distilbert")
    assert (roberta.position_offset, roberta.max_sequence_length) == (2, 8)
    assert (distilbert.position_offset, distilbert.max_sequence_length) == (0, 10)
    assert not roberta.uses_token_types and not distilbert.uses_token_types
    assert config_of("electra").uses_token_types
    assert config_of("electra", embedding_size=None).embedding_size == SIZES["hidden_size"]


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_a_manifest_keeps_the_architecture(model_type: str) -> None:
    config = config_of(model_type, max_position_embeddings=400)
    assert from_dict(BertConfig, json.loads(json.dumps(to_dict(config)))) == config
    fields = sample_fields()
    fields["architecture"] = config
    data = manifest_to_json(build_artifact(files=FILES, **fields).manifest)
    assert manifest_from_json(data).architecture == config
    assert ("embedding_size" in json.loads(data)["architecture"]) == (model_type == "electra")


@pytest.mark.parametrize(
    ("model_type", "change", "message"),
    [
        ("bert", {"embedding_size": None}, "wrong: .'embedding_size'"),
        ("distilbert", {"type_vocab_size": 2}, "type_vocab_size: got 2"),
        ("electra", {"embedding_size": "4"}, "embedding_size: got '4'"),
        ("electra", {"model_type": "bert"}, "wrong: .'embedding_size'"),
        ("roberta", {"model_type": "t5"}, "model_type: got 't5', want one of bert, roberta"),
        ("roberta", {"model_type": None}, "model_type: got None"),
    ],
)
def test_a_manifest_with_another_architecture_is_refused(
    model_type: str, change: dict[str, Any], message: str
) -> None:
    fields = sample_fields()
    fields["architecture"] = config_of(model_type, max_position_embeddings=400)
    values = json.loads(manifest_to_json(build_artifact(files=FILES, **fields).manifest))
    values["architecture"].update(change)
    with pytest.raises(ArtifactFormatError, match=message):
        manifest_from_json(json.dumps(values).encode())


def test_the_longest_window_is_what_the_positions_leave() -> None:
    fields = sample_fields()
    fields["architecture"] = config_of("roberta", max_position_embeddings=66)
    fields["limits"] = {**fields["limits"], "max_seq_length": 64}
    build_artifact(files=FILES, **fields)
    fields["limits"] = {**fields["limits"], "max_seq_length": 65}
    with pytest.raises(ArtifactFormatError, match=r"got 65, want at most .* sequence \(64\)"):
        build_artifact(files=FILES, **fields)


@pytest.mark.parametrize("task", all_heads())
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_a_model_is_built_and_written_where_its_architecture_has_it(
    tmp_path: Path, model_type: str, task: str
) -> None:
    config, head = config_of(model_type), all_heads()[task]
    if head.fits(model_type):
        head.check_fits(model_type)
        save_checkpoint(tmp_path / "c", build_model(task, config), config, tokenizer_files={})
        assert task_of(read_config(tmp_path / "c")[1]) == task
        return
    with pytest.raises(ConfigError, match=f"model_type: got '{model_type}', want an architecture"):
        head.check_fits(model_type)
    with pytest.raises(ConfigError, match=f"got '{task}', and there is no model for it"):
        build_model(task, config)


@pytest.mark.parametrize("model_type", [name for name in ARCHITECTURES if name != "bert"])
def test_no_checkpoint_is_written_that_nothing_reads(tmp_path: Path, model_type: str) -> None:
    config = config_of(model_type)
    with pytest.raises(ConfigError, match=f"got '{model_type}', .* a model of pretraining: bert$"):
        save_checkpoint(tmp_path / "c", BertForPreTraining(config), config, tokenizer_files={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("model_type", ["t5", None, 3, ["bert"]])
def test_an_architecture_that_is_none_has_no_head(model_type: object) -> None:
    with pytest.raises(ConfigError, match="want an architecture that has a model of encoder: bert"):
        ENCODER.check_fits(model_type)
