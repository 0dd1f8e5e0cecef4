"""bert_rt.ray.answerer as what Dataset.map_batches of Ray Data takes; an actor is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.cluster.conftest import ROOT, RayCluster, environment

pytest.importorskip("ray")
pytestmark = pytest.mark.timeout(300)

_ROWS = 400
_DATASET = """
import json, sys, ray, ray.data
import bert_rt.ray
from bert_rt import InputError, Runtime

address, artifact, num_rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
ray.init(address=address, log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False
rows = [
    {"id": i, "q": "who sat?", "c": "the cat sat on the mat " * (1 + i % 3)}
    for i in range(num_rows)
]
rows[7]["q"] = ""
columns = {"question_column": "q", "context_column": "c"}
options = {"columns": columns, "engine": "onnxruntime", "num_threads": 1}
pool = {"concurrency": 2, "num_cpus": 1, "batch_size": 8}

answerer = bert_rt.ray.answerer(bert_rt.ray.put_artifact(artifact), on_error="column", **options)
# Blocks of a few rows, and a pause for each batch, so that there is time to kill an actor.
class Slow(answerer):
    def __call__(self, batch):
        import time
        time.sleep(0.1)
        return super().__call__(batch)

found = []
dataset = ray.data.from_items(rows, override_num_blocks=50).map_batches(Slow, **pool)
for row in dataset.iter_rows():
    found.append(row)
    if len(found) == 16:
        print("begun", flush=True)
found.sort(key=lambda row: row["id"])
with Runtime.load(artifact, engine="onnxruntime", num_threads=1) as runtime:
    want = [runtime.answer(r["q"], r["c"]) if r["q"] else None for r in rows]
assert [row["id"] for row in found] == list(range(num_rows)), [row["id"] for row in found]
assert [row["text"] for row in found] == [it and it.text for it in want]
assert all(it is None or abs(row["score"] - it.score) < 1e-6 for row, it in zip(found, want))
assert [bool(row["error"]) for row in found] == [i == 7 for i in range(num_rows)]
assert "question: got ''" in found[7]["error"]

refused = ray.data.from_items(rows[:16]).map_batches(
    bert_rt.ray.answerer(artifact, **options), **pool
)
try:
    refused.take_all()
except Exception as error:
    print("refused", "EmptyInputError" in str(error), flush=True)
print("equal", len(found), flush=True)
"""


def test_ray_data(artifact_dir: Path, ray_cluster: RayCluster) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _DATASET, ray_cluster.address, str(artifact_dir), str(_ROWS)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "begun\n"
        actors = ray_cluster.workers("ray::MapWorker")
        # On a busy machine the second one is still starting.
        assert 1 <= len(actors) <= 2
        os.kill(actors[0], signal.SIGKILL)
        out, err = process.communicate(timeout=200)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, err[-3000:]
    lines = out.splitlines()
    assert any("A worker died or was killed" in line for line in lines)  # Ray's own message
    # Ray writes lines of its own among ours, behind the last one, too.
    ours = [line for line in lines if line.startswith(("refused ", "equal "))]
    assert ours == ["refused True", f"equal {_ROWS}"]


def test_what_answerer_refuses() -> None:
    from bert_rt import ConfigError
    from bert_rt.ray import answerer

    with pytest.raises(ConfigError, match="on_error: got 'skip', want raise or column"):
        answerer(on_error="skip")
    assert isinstance(answerer(), type)
