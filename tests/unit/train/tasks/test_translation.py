"""Tests of train.tasks.translation."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bert_rt.errors import ConfigError, InputError
from bert_rt.model.encoder_decoder import EncoderDecoder
from bert_rt.model.encoder_decoder_checkpoint import load_encoder_decoder
from bert_rt.tasks.limits import WritingLimits
from bert_rt.tasks.translation.pairs import PairLayout
from tests.support.data.translations import make_config, make_pairs
from tests.support.training import make_checkpoint
from tests.tolerances import FLOAT32_ATOL
from train.average import average_checkpoints
from train.recipes import multi30k
from train.tasks.base import Setup
from train.tasks.translation.objective import make_translating
from train.tasks.translation.task import Options, Translation

INPUTS = ("input_ids", "attention_mask", "decoder_input_ids")


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    place = tmp_path_factory.mktemp("translating")
    return Setup(
        model_dir=make_config(place / "config.json"),
        train_files=[make_pairs(place / "train.jsonl", num_pairs=60)],
        validation_file=make_pairs(place / "dev.jsonl", num_pairs=20, seed=1),
        weights_dir=None,
        limits=WritingLimits(max_seq_length=40, max_target_length=40),
        layout=PairLayout(),
        options=Options(
            length_penalty=0.8,
            batch_tokens=120,
            source_vocab_size=70,
            target_vocab_size=90,
            decoder_layers=2,
        ),
        batch_size=8,
        seed=3,
    )


def test_the_decoder_learns_every_token_of_the_translation_and_its_end(setup: Setup) -> None:
    model, objective = make_translating(setup)
    assert isinstance(model, EncoderDecoder)
    config = model.config
    sources, targets = [], []
    for index in range(objective.num_micro_batches):
        batch = objective.micro_batch(index)
        labels, inputs = batch.tensors["labels"], batch.tensors["decoder_input_ids"]
        assert batch.num_tokens <= 120 and len(labels) <= 8
        assert (inputs[:, 0] == config.decoder_start_token_id).all()
        is_label = labels != -100
        # What the decoder reads at a position is what it learnt at the one before.
        assert (inputs[:, 1:][is_label[:, 1:]] == labels[:, :-1][is_label[:, 1:]]).all()
        ends = labels.gather(1, is_label.sum(1, keepdim=True) - 1)
        assert (ends == config.eos_token_id).all()
        mask = batch.tensors["attention_mask"]
        assert batch.num_tokens == int(mask.sum() + is_label.sum())
        sources += [row[keep == 1].tolist() for row, keep in zip(
            batch.tensors["input_ids"], mask, strict=True
        )]  # fmt: skip
        targets += [row[keep].tolist() for row, keep in zip(labels, is_label, strict=True)]
    rows = [json.loads(line) for line in setup.train_files[0].read_text().splitlines()]
    source, target = objective.tokenizers
    got = sorted(
        (source.decode(s, skip_special_tokens=True), target.decode(t, skip_special_tokens=True))
        for s, t in zip(sources, targets, strict=True)
    )
    assert got == sorted((row["source"], row["target"]) for row in rows)


def test_the_loss_is_smoothed_and_of_the_translations_tokens_only(setup: Setup) -> None:
    model, objective = make_translating(setup)
    model.eval()
    tensors = dict(objective.micro_batch(0).tensors)
    loss, _ = objective.loss(model, tensors)
    with torch.no_grad():
        logp = model(*(tensors[name] for name in INPUTS)).log_softmax(-1)
    terms = [
        0.9 * -logp[row, t, label] + 0.1 * -logp[row, t].mean()
        for row, labels in enumerate(tensors["labels"])
        for t, label in enumerate(labels.tolist())
        if label != -100
    ]
    torch.testing.assert_close(loss, torch.stack(terms).mean(), atol=FLOAT32_ATOL, rtol=0)
    # What stands in the padding changes nothing.
    is_padding = tensors["labels"] == -100
    assert is_padding.any()
    tensors["decoder_input_ids"] = tensors["decoder_input_ids"].masked_fill(is_padding, 9)
    torch.testing.assert_close(objective.loss(model, tensors)[0], loss, atol=FLOAT32_ATOL, rtol=0)


def test_held_out_pairs_are_scored_without_smoothing(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    model, objective = make_translating(setup)
    scores = objective.evaluate(model.eval())
    # A new model knows nothing: all rows of its vocabulary are about as likely.
    assert isinstance(model, EncoderDecoder)
    assert scores["loss"] == pytest.approx(math.log(model.config.decoder.vocab_size), abs=0.2)
    assert scores["token_accuracy"] < 50 and 0 <= scores["bleu"] < 10
    assert list(scores) == ["bleu", "chrf", "loss", "token_accuracy"]
    out = capsys.readouterr().out
    assert "BLEU nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:" in out and "chrF" in out
    assert make_translating(replace(setup, validation_file=None))[1].evaluate(model) == {}


def test_seeds_decide_new_weights(setup: Setup) -> None:
    def words(seed: int) -> torch.Tensor:
        model, _ = make_translating(replace(setup, seed=seed))
        return model.state_dict()["decoder.bert.encoder.layer.0.crossattention.self.query.weight"]

    assert torch.equal(words(3), words(3)) and not torch.equal(words(3), words(4))


def test_what_is_saved_is_trained_further(setup: Setup, tmp_path: Path) -> None:
    model, objective = make_translating(setup)
    objective.save(model, tmp_path / "saved")
    more = make_pairs(tmp_path / "other.jsonl", num_pairs=9, seed=7)
    start = replace(setup, model_dir=tmp_path / "saved", train_files=[more])
    again, other = make_translating(start)
    assert [t.to_json() for t in other.tokenizers] == [t.to_json() for t in objective.tokenizers]
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    task = Translation()
    assert task.start_hash(tmp_path / "saved") != task.start_hash(setup.model_dir)


def test_a_new_decoder_for_an_encoder(setup: Setup, tmp_path: Path) -> None:
    directory = make_checkpoint(tmp_path / "encoder")
    options = replace(setup.options, decoder_hidden_size=16, decoder_layers=1)
    model, objective = make_translating(replace(setup, model_dir=directory, options=options))
    assert isinstance(model, EncoderDecoder)
    weights = load_file(directory / "model.safetensors")
    key = "encoder.layer.1.output.dense.weight"
    assert torch.equal(
        model.encoder.state_dict()[key], weights.get(key, weights.get(f"bert.{key}"))
    )
    assert model.config.is_projected and model.config.decoder.num_attention_heads == 2
    objective.save(model, tmp_path / "saved")
    assert load_encoder_decoder(tmp_path / "saved").config == model.config
    source, target = objective.tokenizers
    assert source.vocab_size != target.vocab_size


def test_pairs_that_are_too_long_are_left_out(
    setup: Setup, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps({"source": "the dog " * 6, "target": "der Hund " * 6}) + "\n")
    limits = WritingLimits(max_seq_length=8, max_target_length=64)
    files = [*setup.train_files, long]
    with caplog.at_level(logging.WARNING):
        model, objective = make_translating(
            replace(setup, limits=limits, train_files=files, validation_file=long)
        )
    assert "left out 1 of 61 training pairs: longer than 8 and 64 tokens" in caplog.text
    widths = [
        objective.micro_batch(index).tensors["input_ids"].shape[1]
        for index in range(objective.num_micro_batches)
    ]
    assert max(widths) <= 8
    # Held-out ones are cut.
    assert objective.evaluate(model.eval())["loss"] > 0


def test_limits_beyond_the_model_and_data_that_do_not_fit(setup: Setup, tmp_path: Path) -> None:
    limits = WritingLimits(max_seq_length=65, max_target_length=40)
    with pytest.raises(ConfigError, match="max_seq_length: got 65, want 8 to the model's 64"):
        make_translating(replace(setup, limits=limits))
    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps({"source": "the dog " * 99, "target": "der"}) + "\n")
    with pytest.raises(InputError, match="train_file: got no pair of at most 40 and 40 tokens"):
        make_translating(replace(setup, train_files=[long]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_tokens": 3}, "batch_tokens: got 3, want an integer from 16"),
        ({"label_smoothing": 1.0}, "label_smoothing: got 1.0, want a number from 0.0 to 0.9"),
        ({"length_penalty": 1e3}, "length_penalty: got 1000.0, want a number from -100.0 to 100.0"),
        ({"decoder_layers": 0}, "decoder_layers: got 0"),
        ({"decoder_hidden_size": 0}, "decoder_hidden_size: got 0"),
    ],
)
def test_options_out_of_range(values: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Translation().make_options(values)


def test_the_translations_limit_follows_the_texts() -> None:
    limits = Translation().make_limits({"max_seq_length": 50}, multi30k())
    assert limits == WritingLimits(max_seq_length=50, max_target_length=50)
    both = {"max_seq_length": 50, "max_target_length": 60}
    assert Translation().make_limits(both, multi30k()).max_target_length == 60


def test_checkpoints_are_averaged(setup: Setup, tmp_path: Path) -> None:
    directories = []
    for seed in (1, 2):
        model, objective = make_translating(replace(setup, seed=seed))
        objective.save(model, tmp_path / f"m{seed}")
        directories.append(tmp_path / f"m{seed}")
    average_checkpoints(directories, tmp_path / "average")
    states = [load_file(path / "model.safetensors") for path in directories]
    got = load_file(tmp_path / "average" / "model.safetensors")
    assert got.keys() == states[0].keys()
    for key, value in got.items():
        want = (states[0][key] + states[1][key]) / 2
        torch.testing.assert_close(value, want, atol=1e-7, rtol=0)
    generation = json.loads((tmp_path / "average" / "generation_config.json").read_text())
    assert (generation["num_beams"], generation["max_length"]) == (5, 40)
    assert generation["length_penalty"] == setup.options.length_penalty
    for name in ("tokenizer.json", "decoder/tokenizer.json", "generation_config.json"):
        assert (tmp_path / "average" / name).read_bytes() == (directories[0] / name).read_bytes()
    other, objective = make_translating(
        replace(setup, options=replace(setup.options, target_vocab_size=40))
    )
    objective.save(other, tmp_path / "other")
    with pytest.raises(ConfigError, match=r"tokenizer of .*other/decoder is another than"):
        average_checkpoints([directories[0], tmp_path / "other"], tmp_path / "no")
    with pytest.raises(ConfigError, match=r"task of .*: got encoder, but .* has encoder-dec"):
        average_checkpoints([directories[0], make_checkpoint(tmp_path / "e")], tmp_path / "no")
