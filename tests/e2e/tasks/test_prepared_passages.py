"""Runtime.prepared: passages that are kept in a file, for the next process."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bert_rt.api import Runtime
from bert_rt.errors import ConfigError, EmptyInputError
from bert_rt.types import Answer, PreparedContexts
from tests.e2e.tasks.test_split_reader import PAIRS, answers, artifact

CONTEXTS = list(dict.fromkeys(context for _, context in PAIRS))


@pytest.fixture(scope="module")
def want() -> list[Answer]:
    with opened(max_context_cache_mb=0) as runtime:
        return answers(runtime)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "passages"
    assert [entry.name for entry in tmp_path.iterdir()] in (
        [],
        ["passages"],
    )  # nothing half-written


def opened(**options: object) -> Runtime:
    return Runtime.load(artifact(), engine="native", num_threads=1, **options)  # type: ignore[arg-type]


def prepare(file: Path, contexts: list[str] = CONTEXTS, **options: object) -> PreparedContexts:
    with opened(**options) as runtime:
        return runtime.prepared(contexts, file)


def test_what_was_computed_once_is_read(file: Path, want: list[Answer]) -> None:
    first = prepare(file, [*CONTEXTS, CONTEXTS[0]])
    assert (first.num_contexts, first.num_left_out, first.num_loaded) == (len(CONTEXTS), 0, 0)
    assert first.num_computed > len(CONTEXTS)  # some have several windows
    written = file.stat().st_mtime_ns, file.stat().st_ino
    with opened() as runtime:
        before = runtime.context_cache
        second = runtime.prepared(CONTEXTS, file)
        assert (second.num_loaded, second.num_computed) == (first.num_computed, 0)
        prepared = runtime.context_cache
        assert prepared["num_contexts"] >= second.num_loaded
        # More than their states, which are what the file has.
        assert prepared["num_bytes"] > 2 * file.stat().st_size
        # All but one came from the file; that one is computed, to be compared.
        assert prepared["num_misses"] <= before["num_misses"] + 1
        assert answers(runtime) == want
        assert runtime.context_cache["num_misses"] == prepared["num_misses"]
    assert (
        file.stat().st_mtime_ns,
        file.stat().st_ino,
    ) == written  # nothing was missing, so nothing was written


def test_one_passage_and_more_of_them(file: Path, want: list[Answer]) -> None:
    with opened() as runtime:
        assert runtime.prepared(CONTEXTS[0], file).num_contexts == 1
    more = prepare(file, CONTEXTS[:3])
    assert more.num_contexts == 3 and min(more.num_loaded, more.num_computed) > 0
    assert prepare(file, CONTEXTS[1:3]).num_computed == 0
    with opened() as runtime:
        assert runtime.prepared(iter(CONTEXTS), file).num_loaded > 0
        assert answers(runtime) == want


def test_a_changed_text_is_another_passage(file: Path) -> None:
    number = prepare(file, CONTEXTS[:1]).num_computed
    assert prepare(file, [CONTEXTS[0] + " "]).num_loaded == 0
    assert prepare(file, [CONTEXTS[0].upper()]).num_loaded == 0  # the same tokens, uncased
    assert prepare(file, CONTEXTS[:1]).num_computed == number


def test_another_artifact_or_other_limits_never_hit(
    file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepare(file)
    with opened() as runtime:
        limits = dataclasses.replace(runtime.limits, doc_stride=runtime.limits.doc_stride - 1)
    caplog.set_level(logging.INFO)
    found = prepare(file, config=limits)
    assert found.num_loaded == 0 and "another artifact, version or limits" in caplog.text
    assert prepare(file).num_loaded == 0

    with opened() as runtime:
        model = runtime.manifest.files["model.onnx"]
        files = {
            **runtime.manifest.files,
            "model.onnx": dataclasses.replace(model, sha256="0" * 64),
        }
        runtime.manifest = dataclasses.replace(runtime.manifest, files=files)
        assert runtime.prepared(CONTEXTS, file).num_loaded == 0


def test_states_that_the_engine_would_not_compute_are_not_kept(
    file: Path, want: list[Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bert_rt.tasks.reuse import prepared

    def rounded(engine: object, *args: object) -> None:
        class Other:
            def prepared_states(self, parts: object) -> object:
                return engine.prepared_states(parts).round(2)  # type: ignore[attr-defined]

        compute(Other(), *args)  # type: ignore[arg-type]

    compute = prepared._compute
    monkeypatch.setattr(prepared, "_compute", rounded)
    prepare(file)
    monkeypatch.undo()
    with opened() as runtime:
        assert runtime.prepared(CONTEXTS, file).num_loaded == 0
        assert answers(runtime) == want
    assert prepare(file).num_computed == 0


def damages(data: bytes) -> Iterator[bytes]:
    yield data[: len(data) // 2]
    yield data[:-1]
    yield data + b"\0"
    for place in (60, len(data) // 2, len(data) - 200, len(data) - 30, len(data) - 1):
        yield data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    yield data[:30]


def test_a_damaged_file_is_one_error_and_made_anew(
    file: Path, want: list[Answer], caplog: pytest.LogCaptureFixture
) -> None:
    total = prepare(file).num_computed
    good = file.read_bytes()
    for data in damages(good):
        file.write_bytes(data)
        caplog.clear()
        with opened() as runtime:
            found = runtime.prepared(CONTEXTS, file)
            assert found.num_loaded < total == found.num_loaded + found.num_computed
            assert answers(runtime) == want
        (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
        assert record.levelno == logging.ERROR and str(file) in record.getMessage()
        assert "damaged" in record.getMessage()
        assert file.read_bytes() == good


def test_a_file_of_somebody_else_is_not_replaced(
    file: Path, want: list[Answer], caplog: pytest.LogCaptureFixture
) -> None:
    for data in (b"my novel", b"", b"bert-rt"):
        file.write_bytes(data)
        caplog.clear()
        with opened() as runtime:
            assert runtime.prepared(CONTEXTS, file).num_loaded == 0
            assert answers(runtime) == want
        assert len(caplog.records) == 1 and "is not replaced" in caplog.text
        assert file.read_bytes() == data


def test_no_more_is_kept_than_there_is_room_for(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [f"{context} {number}" for number in range(20) for context in CONTEXTS]
    every = prepare(file, texts)
    assert every.num_left_out == 0
    assert file.stat().st_size > 2**20
    with opened(max_context_cache_mb=1) as runtime:
        some = runtime.prepared(texts, file)
        facts = runtime.context_cache
        assert facts["num_bytes"] <= facts["max_bytes"] == 2**20
        assert some.num_contexts + some.num_left_out == every.num_contexts
        assert 0 < some.num_left_out < every.num_contexts
        assert "raise max_context_cache_mb" in caplog.text
        # The first of them are those that are kept.
        runtime.answer("where is the cat", texts[0])
        assert runtime.context_cache["num_misses"] == facts["num_misses"]
    assert (some.num_computed, prepare(file, texts).num_computed) == (0, 0)
    with opened(max_context_cache_mb=0) as runtime:
        with pytest.raises(ConfigError, match="max_context_cache_mb: got 0, want at least 1"):
            runtime.prepared(texts, file)
        assert runtime.prepared([], file) == PreparedContexts(0, 0, 0, 0)


def test_what_cannot_be_prepared_is_named(file: Path, tmp_path: Path) -> None:
    with opened() as runtime:
        with pytest.raises(EmptyInputError, match=r"^contexts\[1\]\.context: got ' '"):
            runtime.prepared(["the cat", " "], file)
        with pytest.raises(EmptyInputError, match=r"^contexts\[2\]\.context: got text without"):
            runtime.prepared(["the cat", "the cat", "\x01"], file)
        with pytest.raises(IsADirectoryError):
            runtime.prepared(["the cat"], tmp_path)
    with (
        Runtime.load(engine="native") as runtime,
        pytest.raises(ConfigError, match="split layers: the artifact has none"),
    ):
        runtime.prepared("the cat", file)
    assert not file.exists()


def test_a_file_of_a_copied_artifact_counts(
    file: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    prepare(file)
    copied = tmp_path_factory.mktemp("copied") / "artifact"
    shutil.copytree(artifact(), copied)
    with Runtime.load(copied, engine="native") as runtime:
        assert runtime.prepared(CONTEXTS, file).num_computed == 0
