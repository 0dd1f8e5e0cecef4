"""Tests of compile.judge.tokens."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bert_rt.errors import CompileError
from bert_rt.tasks.question_answering.answering import QuestionAnswering
from bert_rt.text.tokenization import Tokenizer
from compile.judge import tokens
from tests.golden.checkpoints.tokenizer_cases import CASES
from tests.support.data.text import make_tokenizer


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    CASES["markers in tokenizer.json"].write(tmp_path)
    return tmp_path


def stand_in(monkeypatch: pytest.MonkeyPatch, version: str, tokenizer: Any) -> None:
    """Put a module in the place of Transformers."""

    class AutoTokenizer:
        @staticmethod
        def from_pretrained(*_: Any, **__: Any) -> Any:
            if isinstance(tokenizer, Exception):
                raise tokenizer
            return tokenizer

    module = SimpleNamespace(__version__=version, AutoTokenizer=AutoTokenizer, __spec__=object())
    monkeypatch.setitem(sys.modules, "transformers", module)


class Other:
    """A tokenizer of Transformers that does not know a marker."""

    def __init__(self, real: Tokenizer) -> None:
        self._real = real

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": [7] if "[E1]" in text else self._real.encode(text).input_ids.tolist()}

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [f"t{index}" for index in ids]


def test_the_real_one_agrees(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokens.check_tokenizer(directory, Tokenizer.from_directory(directory))
    assert not [record for record in caplog.records if "otherwise" in record.getMessage()]


def test_another_tokenizer_of_transformers_4_stops_the_compile(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = Tokenizer.from_directory(directory)
    stand_in(monkeypatch, "4.57.6", Other(real))
    with pytest.raises(CompileError, match=r"another than in Transformers 4\.57\.6: 'a \[E1\] b'"):
        tokens.check_tokenizer(directory, real)
    stand_in(monkeypatch, "5.1.0", Other(real))
    tokens.check_tokenizer(directory, real)
    assert "Transformers 5.1.0, not 4, splits text otherwise" in caplog.text
    stand_in(monkeypatch, "4.57.6", OSError("cannot be read"))
    tokens.check_tokenizer(directory, real)


def test_an_artifact_that_splits_otherwise_is_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = Tokenizer.from_directory(directory)
    cased = make_tokenizer(do_lower_case=False).to_json()
    monkeypatch.setattr(tokenizer, "to_json", lambda: cased)
    with pytest.raises(CompileError, match=r"the artifact's is another than .*: token '.*' has"):
        tokens.check_tokenizer(directory, tokenizer)


def test_token_ids_of_the_self_test_are_the_checkpoints() -> None:
    tokenizer = make_tokenizer()
    ids = [tokenizer.encode(text).input_ids.tolist() for text in ("Who", "the cat")]
    item = {"question": "Who", "context": "the cat", "token_ids": ids}
    task = QuestionAnswering()
    tokens.check_token_ids([item], task, tokenizer)
    with pytest.raises(CompileError, match=r"self_test\[1\]\.token_ids: got \[\[1\], .*, want"):
        tokens.check_token_ids([item, item | {"token_ids": [[1], ids[1]]}], task, tokenizer)
