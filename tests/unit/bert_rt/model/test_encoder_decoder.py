"""The encoder-decoder computes what it should with and without its cache, and is written whole."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bert_rt.errors import CheckpointError, ConfigError
from bert_rt.model.config import BertConfig
from bert_rt.model.decoder import DecoderCache
from bert_rt.model.encoder_decoder import CachedDecoder
from bert_rt.model.encoder_decoder_checkpoint import (
    initialize_decoder,
    initialize_encoder,
    load_encoder_decoder,
    read_target_tokenizer_files,
    save_encoder_decoder,
)
from bert_rt.text.tokenization import Tokenizer
from tests.support import encoder_decoders as support
from tests.support.checkpoints import edit_config, edit_weights
from tests.support.checkpoints import save as save_bert

# Sums of a few dozen products in another order, of values below 10.
_ATOL = 2e-5
_IDS = torch.tensor([[2, 80, 90, 100, 3], [2, 81, 3, 0, 0]])
_MASK = (_IDS > 0).long()
_TARGETS = torch.tensor([[2, 6, 7, 8, 9, 5], [2, 9, 9, 11, 5, 6]])


def test_the_cache_changes_nothing() -> None:
    model = support.make_model(support.make_config())
    with torch.inference_mode():
        want = model(_IDS, _MASK, _TARGETS)
        states = model.encode(_IDS, _MASK)
        for cuts in ([1, 2, 3, 4, 5, 6], [3, 6], [2, 3, 6]):
            cache, parts = DecoderCache(), []
            for start, end in zip([0, *cuts[:-1]], cuts, strict=True):
                parts.append(model.decode(_TARGETS[:, start:end], states, _MASK, cache))
            assert cache.num_tokens == 6
            torch.testing.assert_close(torch.cat(parts, dim=1), want, atol=_ATOL, rtol=0)


def test_a_target_knows_nothing_of_what_comes_after_and_of_padding() -> None:
    model = support.make_model(support.make_config())
    other = _TARGETS.clone()
    other[:, 4:] = 0
    with torch.inference_mode():
        want = model(_IDS, _MASK, _TARGETS)[:, :4]
        torch.testing.assert_close(model(_IDS, _MASK, other)[:, :4], want, atol=_ATOL, rtol=0)
        assert not torch.allclose(model(_IDS, _MASK, _TARGETS.flip(1))[:, -1], want[:, -1])
        alone = model(_IDS[1:, :3], _MASK[1:, :3], _TARGETS[1:])[0]
        torch.testing.assert_close(model(_IDS, _MASK, _TARGETS)[1], alone, atol=_ATOL, rtol=0)


def test_rows_go_on_where_they_are_sent() -> None:
    model = support.make_model(support.make_config())
    decoder = CachedDecoder(model, _IDS, _MASK)
    decoder.step(_TARGETS[:, 0].numpy(), torch.tensor([0, 1]).numpy())
    decoder.step(torch.tensor([6, 7, 9, 8]).numpy(), torch.tensor([0, 0, 1, 1]).numpy())
    # The first source is finished; both rows of the second continue its second row.
    got = decoder.step(torch.tensor([5, 6]).numpy(), torch.tensor([3, 3]).numpy())
    with torch.inference_mode():
        for row, last in zip(got, (5, 6), strict=True):
            want = model(_IDS[1:], _MASK[1:], torch.tensor([[2, 8, last]]))[0, -1]
            torch.testing.assert_close(torch.from_numpy(row), want, atol=_ATOL, rtol=0)
    with pytest.raises(AssertionError, match="want those of one source together"):
        CachedDecoder(model, _IDS, _MASK).step(
            torch.tensor([1, 1, 1]).numpy(), torch.tensor([0, 1, 0]).numpy()
        )


@pytest.mark.parametrize("ties_words", [True, False])
@pytest.mark.parametrize("encoder", ["bert", "shared", "distilbert", "roberta", "electra"])
def test_what_is_written_is_read(encoder: str, ties_words: bool, tmp_path: Path) -> None:
    part: Any = support.PART
    fields: dict[str, Any] = {"tie_word_embeddings": ties_words}
    if encoder == "shared":
        fields |= {"decoder": part, "tie_encoder_decoder": True}
    elif encoder != "bert":
        values = dataclasses.asdict(part) | {"model_type": encoder}
        if encoder == "distilbert":
            values |= {"type_vocab_size": 0}
        if encoder == "electra":
            values |= {"embedding_size": 12}
        part = BertConfig(**values)
    config = support.make_config(encoder=part, **fields)
    model = support.make_model(config)
    save_encoder_decoder(
        tmp_path, model, tokenizer_files={}, generation_config={"num_beams": 3}, extra={"more": 1}
    )
    loaded = load_encoder_decoder(tmp_path)
    assert loaded.config == config
    assert loaded.raw_config["more"] == 1
    assert loaded.generation_config["num_beams"] == 3
    with torch.inference_mode():
        got, want = (m(_IDS, _MASK, _TARGETS) for m in (loaded.model, model))
    assert torch.equal(got, want)
    count = sum(p.numel() for p in model.parameters())
    # What is shared is written once.
    assert sum(t.numel() for t in load_file(tmp_path / "model.safetensors").values()) == count
    assert sum(p.numel() for p in loaded.model.parameters()) == count


def test_two_tokenizers(tmp_path: Path) -> None:
    support.write_encoder_decoder(tmp_path)
    assert set(read_target_tokenizer_files(tmp_path)) == {
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    }
    source, target = (Tokenizer.from_directory(tmp_path / name) for name in (".", "decoder"))
    assert source.decode(source.encode("the cat").input_ids, skip_special_tokens=True) == "the cat"
    assert target.decode([5, 8, 12], skip_special_tokens=True) == "der katze."
    # Without its own, the target has the source's, which has more ids than there are embeddings.
    for file in (tmp_path / "decoder").iterdir():
        file.unlink()
    with pytest.raises(CheckpointError, match="want at most vocab_size"):
        load_encoder_decoder(tmp_path)


def test_values_of_old_releases_stand_in_config_json(tmp_path: Path) -> None:
    support.write_encoder_decoder(tmp_path)
    (tmp_path / "generation_config.json").unlink()
    edit_config(tmp_path, num_beams=1, max_length=20, min_length=7, length_penalty=2.0)
    raw = json.loads((tmp_path / "config.json").read_text())
    raw["decoder"] |= {"max_length": 20, "no_repeat_ngram_size": 3, "length_penalty": 1.0}
    edit_config(tmp_path, decoder=raw["decoder"])
    values = load_encoder_decoder(tmp_path).generation_config
    want = {"min_length": 7, "length_penalty": 2.0, "no_repeat_ngram_size": 3}
    assert {name: values[name] for name in want} == want
    assert not {"num_beams", "max_length"} & set(values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, "model_type: got 'bert', want 'encoder-decoder'"),
        ({"encoder": None}, "encoder: got None, want the configuration of one"),
        ({"decoder": {"is_decoder": False}}, "decoder.is_decoder: got False, supported is True"),
        ({"decoder": {"add_cross_attention": None}}, "decoder.add_cross_attention: got None"),
        ({"encoder": {"is_decoder": True}}, "encoder.is_decoder: got True, supported is False"),
        ({"decoder": {"hidden_act": "relu"}}, "decoder.hidden_act: got 'relu'"),
        ({"decoder": {"model_type": "gpt2"}}, "decoder.model_type: got 'gpt2'"),
        ({"decoder": {"model_type": "roberta"}}, "decoder.model_type: got 'roberta', want one of"),
        ({"decoder": {"cross_attention_hidden_size": 7}}, "cross_attention_hidden_size: got 7"),
        ({"decoder": {"tie_word_embeddings": 1}}, "tie_word_embeddings: got 1, want true or"),
        ({"tie_encoder_decoder": True}, "vocab_size is 210 in the encoder and 15"),
        ({"decoder": {"num_hidden_layers": 3}}, "missing keys"),
        ({"decoder": {"num_hidden_layers": 1}}, "unexpected keys"),
        ({"decoder": {"intermediate_size": 25}}, "want floats of shape"),
    ],
)
def test_refused_checkpoints(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    support.write_encoder_decoder(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    for name, value in changes.items():
        raw[name] = {**raw[name], **value} if isinstance(value, dict) else value
    (tmp_path / "config.json").write_text(json.dumps(raw))
    message = message.replace("210", str(support.PART.vocab_size))
    with pytest.raises(CheckpointError, match=message):
        load_encoder_decoder(tmp_path)


def test_token_ids_must_be_said_and_in_the_vocabulary(tmp_path: Path) -> None:
    support.write_encoder_decoder(tmp_path)
    file = tmp_path / "generation_config.json"
    file.write_text(json.dumps({"eos_token_id": 99}))
    with pytest.raises(CheckpointError, match="eos_token_id: got 99, want an integer from 0 to 14"):
        load_encoder_decoder(tmp_path)
    file.write_text("{}")
    edit_config(tmp_path, decoder_start_token_id=None)
    with pytest.raises(CheckpointError, match="decoder_start_token_id: got none, want a token id"):
        load_encoder_decoder(tmp_path)


def test_weights_that_are_not_tied_are_an_error(tmp_path: Path) -> None:
    model = support.write_encoder_decoder(tmp_path)
    words = model.decoder.bert.embeddings.word_embeddings.weight.detach()
    name = "decoder__cls__predictions__decoder__weight"
    edit_weights(tmp_path, **{name: words.clone()})
    load_encoder_decoder(tmp_path)
    edit_weights(tmp_path, **{name: words + 1})
    with pytest.raises(CheckpointError, match="want them tied"):
        load_encoder_decoder(tmp_path)


def test_training_starts_from_bert(tmp_path: Path) -> None:
    save_bert(tmp_path, "pretraining")
    weights = load_file(tmp_path / "model.safetensors")
    from tests.support.checkpoints import CONFIG

    config = support.make_config(encoder=CONFIG, decoder=CONFIG)
    model = support.make_model(config)
    cross = model.decoder.bert.state_dict()["encoder.layer.0.crossattention.self.query.weight"]
    cross = cross.clone()
    initialize_encoder(model, tmp_path)
    initialize_decoder(model, tmp_path)
    state = model.state_dict()
    for key, tensor in weights.items():
        if key.startswith("bert.") and "pooler" not in key:
            assert torch.equal(state[f"encoder.{key.removeprefix('bert.')}"], tensor), key
            assert torch.equal(state[f"decoder.{key}"], tensor), key
        elif key.startswith("cls.predictions."):
            assert torch.equal(state[f"decoder.{key}"], tensor), key
    assert torch.equal(
        state["decoder.bert.encoder.layer.0.crossattention.self.query.weight"], cross
    )
    other = dataclasses.replace(CONFIG, num_attention_heads=4)
    model = support.make_model(support.make_config(encoder=other, decoder=other))
    for initialize in (initialize_encoder, initialize_decoder):
        with pytest.raises(ConfigError, match="num_attention_heads: got 2, want the"):
            initialize(model, tmp_path)
