"""Memory stays bounded over batches of ever other shapes, on every engine."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import memory

_ROOT = Path(memory.__file__).parents[2]
_ENGINES = ("native", "onnxruntime", "openvino", "torch")
# Long: what the issue that brought this test asks for. Short: on the old code openvino grows by
# more than the limit within as many shapes.
_NUM_BATCHES = 10_000 if os.environ.get("BERT_RT_LONG_TESTS") == "1" else 400
_MAX_GROWTH_MIB = 20  # seen: 14, and 29 with the default caches of openvino


@pytest.mark.timeout(3600)  # the long form takes minutes, more on a busy machine
@pytest.mark.parametrize("engine", _ENGINES)
def test_memory_does_not_grow_with_the_number_of_shapes(engine: str) -> None:
    if importlib.util.find_spec("bert_rt._native" if engine == "native" else engine) is None:
        pytest.skip(f"{engine} is not here")
    # A process of its own: what other tests left free would be used first.
    result = subprocess.run(
        [sys.executable, "-m", memory.__name__, engine, str(_NUM_BATCHES)],
        cwd=_ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    middle, end = map(float, result.stdout.split())
    assert end - middle < _MAX_GROWTH_MIB
