"""Pipelines that write texts: shapes of results, arguments, limits, and bad input."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bert_rt import pipeline
from bert_rt.errors import (
    CheckpointError,
    ConfigError,
    EmptyInputError,
    InputError,
    InputTooLongError,
)
from bert_rt.pipelines.summarization import SummarizationPipeline
from bert_rt.pipelines.text2text_generation import (
    GeneratedSummaryPipeline,
    Text2TextGenerationPipeline,
    TranslationPipeline,
)
from tests.support.artifacts import write_tiny_artifact
from tests.support.encoder_decoders import CLS, PAD, SEP, write_encoder_decoder

_TEXTS = ["The cat sat.", "Who is in Paris?", "mat"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write_encoder_decoder(root / "writer", max_length=12, length_penalty=0.5)
    write_encoder_decoder(root / "plain")
    write_tiny_artifact(root / "artifact")
    return root


@pytest.fixture(scope="module")
def translate(models: Path) -> Iterator[Any]:
    with pipeline("translation_en_to_de", models / "writer") as pipe:
        yield pipe


@pytest.fixture(autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(num_threads)


@pytest.mark.parametrize(
    ("task", "cls", "name"),
    [
        ("translation", TranslationPipeline, "translation"),
        ("translation_en_to_de", TranslationPipeline, "translation"),
        ("summarization", GeneratedSummaryPipeline, "summary"),
        ("text2text-generation", Text2TextGenerationPipeline, "generated"),
        (None, Text2TextGenerationPipeline, "generated"),
    ],
)
def test_the_tasks(models: Path, task: str | None, cls: type, name: str) -> None:
    with pipeline(task, models / "writer", device=-1) as pipe:
        assert type(pipe) is cls
        (got,) = pipe(_TEXTS[0])
        (ids,) = pipe(_TEXTS[0], return_tensors=True)
    assert list(got) == [f"{name}_text"]
    assert list(ids) == [f"{name}_token_ids"]
    tokens = ids[f"{name}_token_ids"]
    assert tokens.dtype == torch.int64
    assert tokens[0] == CLS
    text = pipe.model.target_tokenizer.decode(tokens.tolist(), skip_special_tokens=True)
    assert got[f"{name}_text"] == text != ""


def test_the_shapes_of_results(translate: Any) -> None:
    each = [translate(text) for text in _TEXTS]
    assert [len(result) for result in each] == [1, 1, 1]
    assert translate(_TEXTS) == translate(_TEXTS, batch_size=3) == [r[0] for r in each]
    assert list(translate(iter(_TEXTS))) == each
    assert translate([]) == []
    assert translate(_TEXTS[:1]) == each[0]
    several = translate(_TEXTS, num_return_sequences=3, batch_size=2)
    assert [[list(r) for r in group] for group in several] == [[["translation_text"]] * 3] * 3
    # The best of several is the one; the others are others.
    assert [group[0] for group in several] == [result[0] for result in each]
    tensors = translate(_TEXTS[0], num_return_sequences=4, return_tensors=True)
    rows = [r["translation_token_ids"].tolist() for r in tensors]
    assert len({len(row) for row in rows}) == 1
    assert len({tuple(row) for row in rows}) == 4
    assert all(token == PAD for row in rows if SEP in row for token in row[row.index(SEP) + 1 :])
    assert translate(_TEXTS[0], return_type=1, src_lang="en", tgt_lang="de") == each[0]


def test_the_checkpoints_defaults_go_before_those_of_the_pipeline(models: Path) -> None:
    def limits(model: str, **options: Any) -> tuple[int, int, float]:
        with pipeline("translation", models / model, **options) as pipe:
            config = pipe._defaults.config
        return config.num_beams, config.longest, config.length_penalty

    assert limits("plain") == (4, 257, 1.0)
    assert limits("writer") == (4, 12, 0.5)
    assert limits("writer", num_beams=2, max_new_tokens=5) == (2, 6, 0.5)
    assert limits("writer", max_length=7) == (4, 7, 0.5)
    given = {"num_beams": 3, "max_length": 9}
    assert limits("writer", generation_config=given) == (3, 9, 1.0)


def test_arguments_of_a_call(translate: Any) -> None:
    def tokens(**kwargs: Any) -> list[int]:
        (result,) = translate(_TEXTS[0], return_tensors=True, **kwargs)
        return result["translation_token_ids"].tolist()  # type: ignore[no-any-return]

    assert len(tokens(max_new_tokens=3, min_new_tokens=3)) == 4
    assert len(tokens(max_length=3, min_length=3)) == 3
    assert len(tokens(max_length=20, min_length=20)) == 20
    assert tokens(forced_bos_token_id=9)[1] == 9
    assert tokens(forced_eos_token_id=SEP, max_length=5, min_length=4)[-1] == SEP
    row = tokens(no_repeat_ngram_size=1, max_length=12)
    assert len(set(row)) == len(row)
    third = tokens(num_beams=1, max_new_tokens=8, min_new_tokens=4)[3]
    stopped = tokens(num_beams=1, max_new_tokens=8, eos_token_id=[third, SEP])
    assert len(stopped) <= 4
    word = translate.model.target_tokenizer.decode([third], skip_special_tokens=False)
    if not word.startswith(("##", "[")):
        assert tokens(num_beams=1, max_new_tokens=8, stop_sequence=word)[-1] in (third, PAD)
    assert tokens(truncation=True, num_workers=2, use_cache=True) == tokens()


def test_long_and_strange_texts(translate: Any) -> None:
    long_text = "cat " * 20_000
    with pytest.raises(InputTooLongError, match=r"inputs\[0\]: got 20002 tokens, want at most 32"):
        translate(long_text)
    assert translate(long_text, truncation=True) == translate("cat " * 30, truncation=True)
    assert translate("\u05e9\u05dc\u05d5\u05dd \u0e20\u0e32\u0e29\u0e32 \U0001f600")
    for empty in ("", "  \n"):
        with pytest.raises(EmptyInputError, match=r"inputs\[1\].text: got"):
            translate([_TEXTS[0], empty])
    with pytest.raises(EmptyInputError):
        translate("\u200b")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_length": 0}, "max_length: got 0, want an integer from 2"),
        ({"max_length": 33}, "max_length: got 33, want at most 32 with this model"),
        ({"max_new_tokens": 32}, "max_new_tokens: got 32, want at most 31 with this model"),
        ({"max_new_tokens": "3"}, "max_new_tokens: got '3', want an integer"),
        ({"num_return_sequences": 5}, "num_return_sequences: got 5, want an integer from 1 to 4"),
        ({"eos_token_id": 15}, "eos_token_id: got 15, want a token id below 15"),
        ({"forced_bos_token_id": 99}, "forced_bos_token_id: got 99, want a token id below 15"),
        ({"do_sample": True}, "do_sample: got True"),
        ({"max_sentences": 2}, r"arguments: got \['max_sentences'\]"),
        ({"return_type": 2}, "return_type: got 2"),
        ({"stop_sequence": ""}, "stop_sequence: got ''"),
        ({"truncation": "middle"}, "truncation: got 'middle'"),
        ({"generation_config": 3}, "generation_config: got int"),
        ({"batch_size": 0}, "batch_size: got 0"),
    ],
)
def test_bad_arguments(translate: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        translate(_TEXTS[0], **arguments)
    with pytest.raises(InputError, match=r"inputs\[1\]: got int, want str"):
        translate([_TEXTS[0], 3])


def test_models_that_do_not_fit(models: Path, tmp_path: Path) -> None:
    for model in (None, models / "artifact"):
        with pytest.raises(
            ConfigError, match=r"want for translation (an artifact|one) with a decoder"
        ):
            pipeline("translation", model)
    with pytest.raises(ConfigError, match="no such directory"):
        pipeline("translation", "Helsinki-NLP/opus-mt-en-de")
    with pytest.raises(ConfigError, match="'native' for a checkpoint"):
        pipeline("translation", models / "writer", engine="native")
    with pytest.raises(CheckpointError, match="model_type: got 'encoder-decoder'"):
        pipeline("question-answering", models / "writer")
    write_encoder_decoder(tmp_path / "sampling", do_sample=True)
    with pytest.raises(ConfigError, match=r"generation_config.json: do_sample: got True"):
        pipeline("translation", tmp_path / "sampling")
    with pytest.raises(ConfigError, match="translation_xx_to_yy"):
        pipeline("translation_en", models / "writer")


def test_a_model_that_chooses_sentences_still_does(models: Path) -> None:
    from bert_rt.pipelines import _ENGINE_TASKS

    assert _ENGINE_TASKS["summarization"] is SummarizationPipeline
    with pytest.raises(ConfigError, match="want one for summarization"):
        pipeline("summarization", models / "artifact", engine="onnxruntime")


def test_the_checkpoint_of_a_directory_is_named_in_errors(models: Path, tmp_path: Path) -> None:
    write_encoder_decoder(tmp_path / "bad")
    file = tmp_path / "bad" / "config.json"
    raw = json.loads(file.read_text())
    raw["decoder"]["is_decoder"] = False
    file.write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match=r"decoder.is_decoder: got False"):
        pipeline("translation", tmp_path / "bad")
