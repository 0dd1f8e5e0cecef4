"""Pipelines that write, on an artifact: the results of the checkpoint that it was made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bert_rt import Runtime, pipeline
from bert_rt.artifact.artifact import write_artifact
from bert_rt.errors import InputError
from bert_rt.model.encoder_decoder_checkpoint import save_encoder_decoder
from tests.support import encoder_decoders, seq2seq_artifacts
from tests.support.data.text import VOCAB

pytestmark = pytest.mark.timeout(600)
_TEXTS = ["The cat sat.", "Who is in Paris? The mat.", "mat"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write_artifact(
        root / "artifact",
        files=seq2seq_artifacts.artifact_files(is_int8=False),
        **seq2seq_artifacts.artifact_fields("float32"),
    )
    save_encoder_decoder(
        root / "checkpoint",
        seq2seq_artifacts.make_model(),
        tokenizer_files=encoder_decoders.tokenizer_files(VOCAB),
        decoder_tokenizer_files=encoder_decoders.tokenizer_files(encoder_decoders.TARGET_VOCAB),
        generation_config={"num_beams": 4, "max_length": 24},
    )
    return root


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_results_are_those_of_the_checkpoint(models: Path, engine: str) -> None:
    num_threads = torch.get_num_threads()
    options = {"num_return_sequences": 2, "no_repeat_ngram_size": 3}
    with pipeline("translation", models / "checkpoint", num_threads=1) as theirs:
        want = [theirs(_TEXTS), theirs(_TEXTS, **options)]
        (wanted,) = theirs(_TEXTS[0], return_tensors=True)
    torch.set_num_threads(num_threads)
    with pipeline("translation", models / "artifact", engine=engine, num_threads=1) as ours:
        assert [ours(_TEXTS), ours(_TEXTS, **options)] == want
        (got,) = ours(_TEXTS[0], return_tensors=True)
        assert got["translation_token_ids"].dtype == np.int64
        assert got["translation_token_ids"].tolist() == wanted["translation_token_ids"].tolist()
        with pytest.raises(InputError, match="max_new_tokens: got 32, want at most 31"):
            ours(_TEXTS[0], max_new_tokens=32)
    with pipeline("text2text-generation", models / "artifact", engine=engine) as ours:
        assert ours(_TEXTS[0]) == [{"generated_text": want[0][0]["translation_text"]}]


def test_the_task_is_the_artifacts_and_a_runtime_will_do(models: Path) -> None:
    with Runtime.load(models / "artifact", engine="onnxruntime", num_threads=1) as runtime:
        translate = pipeline(model=runtime)
        assert translate.task == "translation"
        # As in Transformers, a text is translated as one.
        text = _TEXTS[1]
        whole = runtime.translate(text, split_sentences=False).text
        assert translate(text) == [{"translation_text": whole}]
