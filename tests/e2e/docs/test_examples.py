"""Every example runs; own_classifier.py runs in test_readme.py, which shows what it prints."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import httpx
import pytest

from bert_rt import Runtime
from bert_rt.tasks.summarization.documents import read_documents
from tests.support.pages import ROOT

_EXAMPLES = ROOT / "examples"
_FILES = sorted(_EXAMPLES.glob("*.py"))


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, _EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with Runtime.load() as runtime:
        yield runtime


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.name)
def test_examples_are_short_and_listed(path: Path) -> None:
    assert path.read_text().count("\n") < 80
    assert f"({path.name})" in (_EXAMPLES / "README.md").read_text()
    assert f"examples/{path.name}" in path.read_text() or path.stem == "web_app"


def test_all_examples_are_there() -> None:
    names = {"aclsum_files", "batch_file", "document_folder", "own_classifier", "web_app"}
    assert {path.stem for path in _FILES} == names


def test_batch_file(runtime: Runtime, tmp_path: Path) -> None:
    source, target = _EXAMPLES / "data" / "questions.jsonl", tmp_path / "answers.jsonl"
    assert _load("batch_file").answer_file(runtime, source, target) == 3
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert [line["id"] for line in lines] == [1, 2, 3]
    assert [line["answer"] for line in lines] == ["Karl von Frisch", "1973", "nectar and pollen"]


def test_aclsum_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Document:
        """As the package aclsum has it."""

        summaries: ClassVar[dict[str, str]] = {
            "outcome": "It is warm.",
            "challenge": "It was cold.",
            "approach": "They made a fire.",
        }

        def get_all_sentences(self) -> list[str]:
            return ["It was a cold day .", "We made a fire ."]

    package = ModuleType("aclsum")
    package.ACLSum = lambda split: [Document()] * len(split)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "aclsum", package)
    paths = _load("aclsum_files").write_files(tmp_path / "data")
    assert [path.name for path in paths] == ["train.jsonl", "dev.jsonl", "test.jsonl"]
    documents = [read_documents(path) for path in paths]
    assert [len(rows) for rows in documents] == [5, 3, 4]
    assert documents[1][0].text == "It was a cold day . We made a fire ."
    assert documents[1][0].references == ("It was cold. They made a fire. It is warm.",)


def test_document_folder(runtime: Runtime) -> None:
    ask = _load("document_folder").ask
    folder = _EXAMPLES / "data" / "letters"
    found = ask(runtime, folder, "Where was the gold found?")
    assert len(found) == 3
    assert found[0].path.name == "1849-03-coloma.txt"
    assert found[0].line == 5
    best = ask(runtime, folder, "Who is ill?")[0]
    assert (best.path.name, best.answer.text) == ("1849-06-stockton.txt", "Thomas")


def test_web_app() -> None:
    app = _load("web_app").app
    good = {"question": "Who wrote it?", "context": "The Iliad was written by Homer."}

    async def ask() -> None:
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            replies = await asyncio.gather(*(client.post("/answer", json=good) for _ in range(8)))
            assert [reply.status_code for reply in replies] == [200] * 8
            assert {reply.json()["text"] for reply in replies} == {"Homer"}
            refused = await client.post("/answer", json={**good, "context": " "})
            assert refused.status_code == 400
            assert refused.json() == {
                "error": "context: got ' ', want text that is not only white space"
            }
            for body in ("no JSON", "[]", '{"question": "Who?"}'):
                assert (await client.post("/answer", content=body)).status_code == 400
            health = (await client.get("/health")).json()
            waiting = health["waiting"]
            assert (waiting["num_requests"], waiting["num_tokens"]) == (0, 0)

    asyncio.run(ask())
