"""The native engine on ARM64: cross-compiled, run by qemu as processors with and without i8mm.

Every kernel of every table must equal the scalar one, and logits those of x86's scalar table, bit
for bit.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from bert_rt.engines.native import NativeEngine
from bert_rt.types import PackedBatch
from tests.cross.support import ROOT, build, need, run

pytestmark = pytest.mark.slow

# What qemu calls a processor: the tables that run on it, best first.
PROCESSORS = {
    "max": ["neon_i8mm", "neon_dotprod", "scalar"],
    "cortex-a76": ["neon_dotprod", "scalar"],
    "cortex-a72": ["scalar"],
}
MODELS = [ROOT / "tests" / "cpp" / f"{name}.onnx" for name in ("tiny", "family")]
ROUNDS = "2"


@pytest.fixture(scope="module")
def emulator() -> str:
    return need("qemu-aarch64-static", "qemu-aarch64", package="qemu-user-static")


@pytest.fixture(scope="module")
def driver() -> Path:
    need("aarch64-linux-gnu-g++", package="g++-aarch64-linux-gnu")
    return build("aarch64")


@pytest.fixture(scope="module", params=MODELS, ids=lambda path: path.stem)
def model(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture(scope="module")
def logits(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A batch and its logits by this machine's scalar table, as the driver reads them."""
    engine = NativeEngine(model.read_bytes(), num_threads=1, isa="scalar")
    facts = engine.facts
    longest = facts["max_position_embeddings"]
    lengths = [longest, 1, longest // 2, 7]
    random = np.random.default_rng(1)
    cu_seqlens = np.array([0, *np.cumsum(lengths)], np.int32)
    num_tokens = int(cu_seqlens[-1])
    ids = random.integers(0, facts["vocab_size"], num_tokens, np.int32)
    types = random.integers(0, max(1, facts["type_vocab_size"]), num_tokens, np.int32)
    result = engine.run(PackedBatch(ids, types, cu_seqlens, longest))
    assert len(np.unique(result["start_logits"])) > num_tokens // 2
    sizes = np.array([len(lengths), num_tokens], np.int32)
    arrays = (sizes, cu_seqlens, ids, types, result["start_logits"], result["end_logits"])
    path = tmp_path_factory.mktemp("logits") / f"{model.stem}.bin"
    path.write_bytes(
        b"".join(array.astype(array.dtype.newbyteorder("<")).tobytes() for array in arrays)
    )
    return path


def emulate(
    emulator: str, processor: str, driver: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    library = ("-L", "/usr/aarch64-linux-gnu")
    return run(emulator, "-cpu", processor, *library, str(driver), *arguments, **variables)


@pytest.mark.parametrize("processor", PROCESSORS)
def test_kernels_equal_scalar(emulator: str, driver: Path, processor: str) -> None:
    done = emulate(emulator, processor, driver, str(MODELS[0]), ROUNDS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        *(f"{table}: kernels equal scalar" for table in PROCESSORS[processor]),
        "engine: equal on every table and thread count",
        "reader: survived damage",
        "wordpiece: spans lie in the text",
    ]


@pytest.mark.parametrize("processor", PROCESSORS)
def test_logits_equal_those_of_this_machine(
    emulator: str, driver: Path, model: Path, logits: Path, processor: str
) -> None:
    done = emulate(emulator, processor, driver, str(model), str(logits))
    assert done.returncode == 0, done.stdout + done.stderr
    tables = PROCESSORS[processor]
    assert done.stdout.splitlines() == [
        *(f"{table}: logits equal the other machine's" for table in tables),
        f"{tables[0]}: chosen here",
    ]


@pytest.mark.parametrize(
    ("processor", "isa", "message"),
    [
        ("cortex-a76", "neon_i8mm", "this machine cannot run 'neon_i8mm'"),
        ("cortex-a72", "neon_dotprod", "this machine cannot run 'neon_dotprod'"),
        ("max", "avx2", "'avx2' is not compiled into this build"),
        ("max", "neon", "got 'neon', want one of "),
    ],
)
def test_a_table_that_cannot_run_is_refused(
    emulator: str, driver: Path, model: Path, logits: Path, processor: str, isa: str, message: str
) -> None:
    done = emulate(emulator, processor, driver, str(model), str(logits), BERT_RT_ISA=isa)
    assert done.returncode == 1
    assert done.stderr.startswith(f"BERT_RT_ISA: {message}")


def test_other_logits_are_noticed(
    emulator: str, driver: Path, model: Path, logits: Path, tmp_path: Path
) -> None:
    data = bytearray(logits.read_bytes())
    data[-4] ^= 1  # the last bit of the last end logit
    changed = tmp_path / "changed.bin"
    changed.write_bytes(data)
    done = emulate(emulator, "max", driver, str(model), str(changed))
    assert done.returncode == 1
    assert done.stderr == "failed: logits of the other machine: neon_i8mm\n"
