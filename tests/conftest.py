"""Fixtures of all tests, and how hypothesis runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from bert_rt.text.tokenization import Tokenizer
from tests.support.data.text import make_tokenizer

# The same examples on every run and no clock: a test that fails fails for everybody.
settings.register_profile("bert_rt", derandomize=True, deadline=None, database=None)
settings.load_profile("bert_rt")

_SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Return the directory of data sets and checkpoints beside the project.

    The test is skipped where it is absent, unless BERT_RT_REQUIRE_SHARED=1 says that it must be
    there: then the test fails.
    """
    if not _SHARED.is_dir():
        if os.environ.get("BERT_RT_REQUIRE_SHARED") == "1":
            pytest.fail(f"BERT_RT_REQUIRE_SHARED=1, but there is no {_SHARED}")
        pytest.skip(f"no {_SHARED}")
    return _SHARED


@pytest.fixture(scope="session")
def transformers4() -> Path:
    """Return the python of the environment with Transformers 4.57.6, which `make test` makes.

    The test is skipped where it is absent, unless BERT_RT_REQUIRE_TRANSFORMERS4=1.
    """
    python = Path(__file__).resolve().parents[1] / ".venv4" / "bin" / "python"
    if not python.is_file():
        if os.environ.get("BERT_RT_REQUIRE_TRANSFORMERS4") == "1":
            pytest.fail(f"BERT_RT_REQUIRE_TRANSFORMERS4=1, but there is no {python}")
        pytest.skip(f"no {python}: make .venv4/.made")
    return python


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """Return a small uncased WordPiece tokenizer that needs no file."""
    return make_tokenizer()
