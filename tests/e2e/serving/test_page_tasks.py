"""The page with models of every task, and of one that only tests know, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from bert_rt.artifact.artifact import write_artifact
from tests.support import seq2seq_artifacts
from tests.support.artifacts import (
    CLASSIFIER_LIMITS,
    LABELS,
    make_model,
    write_tiny_artifact,
    write_tiny_classifier,
    write_tiny_summarizer,
    write_tiny_tagger,
)
from tests.support.data.text import make_tokenizer
from tests.support.serving.browser import Visit
from tests.support.serving.server import Served, served
from tests.support.toy_task.serving import write_tiny_shares

# Tracing the encoder-decoder takes a while on a machine that does other things, too.
pytestmark = pytest.mark.timeout(600)

# Two code units each for JavaScript, one character for the service.
TEXT = "\U0001f600\U0001f680 The cat sat on the mat in Paris. The mat sat. Who sat on the cat?"
_MODELS = {
    "sums": "summarization",
    "en-de": "translation",
    "names": "token-classification",
    "mood": "text-classification",
    "stars": "text-classification",
    "words": "word-shares",
    "squad": "question-answering",
}
_REGRESSION: dict[str, Any] = {
    "task": "text-classification",
    "limits": CLASSIFIER_LIMITS,
    "labels": ("stars",),
    "head": {"problem_type": "regression", "function_to_apply": "none"},
    "files": {
        "model.onnx": make_model(num_labels=1),
        "tokenizer.json": make_tokenizer().to_json(),
    },
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    path = tmp_path_factory.mktemp("models")
    write_tiny_summarizer(path / "sums")
    fields = seq2seq_artifacts.artifact_fields("float32")
    files = seq2seq_artifacts.artifact_files(is_int8=False)
    write_artifact(path / "en-de", files=files, **fields)
    write_tiny_tagger(path / "names")
    write_tiny_classifier(path / "mood")
    write_tiny_artifact(path / "squad")
    write_tiny_shares(path / "words")
    write_tiny_artifact(path / "stars", **_REGRESSION)
    flags = [f for name in _MODELS for f in ("--artifact", f"{name}={path / name}")]
    command = ["tests.support.toy_task.serving", "--port", "0", "--engine", "onnxruntime"]
    with served([*command, "--num_threads", "1", *flags]) as server:
        yield server


class ModelVisit(Visit):
    """A visit that chooses a model."""

    def choose(self, name: str) -> None:
        self.page.get_by_label("Model", exact=True).select_option(name)

    def write(self, text: str, label: str = "Text") -> None:
        self.page.get_by_label(label, exact=True).fill(text)


def _result(server: Served, path: str, field: str, **request: Any) -> Any:
    status, response, _ = server.ask(f"/v1/{path}", {"text": TEXT, **request})
    assert status == 200, response
    return response[field][0]


def _pointed_at(visit: Visit, index: int) -> str:
    visit.page.locator("#headline .piece").nth(index).focus()
    return "".join(visit.marked("mark.other"))


def test_a_summary_and_its_sentences(browser: Browser, server: Served) -> None:
    want = _result(server, "summarize", "summaries")
    sentences = [it["text"] for it in want["sentences"]]
    assert sentences and all(TEXT[it["start"] :].startswith(it["text"]) for it in want["sentences"])
    with ModelVisit(browser, server) as visit:
        visit.write(TEXT)
        visit.submit("Sum up")
        assert visit.text_of("#headline") == want["text"]
        assert visit.text_of("#passage") == TEXT
        assert visit.marked() == sentences
        assert visit.page.locator("#headline .piece").all_text_contents() == sentences
        for index, sentence in enumerate(sentences):
            assert _pointed_at(visit, index) == sentence
            assert sorted(visit.marked()) == sorted(sentences)
        assert visit.text_of("#score") == ""
        assert visit.page.locator("#runners-up").is_hidden()
        assert visit.faults == []
        assert {url for url in visit.urls if not url.startswith(visit.home)} == set()


def test_a_translation_and_where_it_is_from(browser: Browser, server: Served) -> None:
    want = _result(server, "translate", "translations")
    sentences = [it for it in want["sentences"] if it["text"]]
    assert len(sentences) > 1 and sentences[-1]["start"] > 30
    sources = [TEXT[it["start"] : it["end"]] for it in sentences]
    with ModelVisit(browser, server) as visit:
        visit.choose("en-de")
        visit.write(TEXT)
        visit.submit("Translate")
        assert visit.text_of("#headline") == want["text"]
        assert visit.text_of("#passage") == TEXT
        pieces = visit.page.locator("#headline .piece")
        assert pieces.all_text_contents() == [it["text"] for it in sentences]
        assert visit.marked() == []
        for index, source in enumerate(sources):
            assert _pointed_at(visit, index) == source
            assert visit.marked() == [source]
            assert pieces.nth(index).get_attribute("aria-description") == source
        pieces.last.blur()
        assert visit.marked() == []
        pieces.first.hover()
        assert visit.marked("mark.other") == sources[:1]
        # Its scores are log probabilities, which nobody reads as percent.
        assert "%" not in visit.text_of("#best")
        assert visit.faults == []


def test_entities_with_their_labels(browser: Browser, server: Served) -> None:
    entities = _result(server, "tag", "taggings")["entities"]
    assert len(entities) > 1 and entities[-1]["start"] > 1
    with ModelVisit(browser, server) as visit:
        visit.choose("names")
        visit.write(TEXT)
        visit.submit("Find entities")
        assert visit.text_of("#headline") == f"{len(entities)} found"
        assert visit.text_of("#passage") == TEXT
        marks = visit.page.locator("#passage mark")
        assert marks.all_text_contents() == [it["text"] for it in entities]
        labels = marks.evaluate_all("found => found.map(it => it.dataset.label)")
        assert labels == [it["label"] for it in entities]
        shown = "getComputedStyle(it, '::after').content.includes(it.dataset.label)"
        assert marks.first.evaluate(f"it => {shown}")
        assert visit.faults == []


def test_classes_and_values(browser: Browser, server: Served) -> None:
    best = _result(server, "classify", "classes", top_k=5, model="mood")
    pair = _result(server, "classify", "classes", text_pair="the cat", model="mood")
    value = _result(server, "classify", "classes", model="stars")
    with ModelVisit(browser, server) as visit:
        visit.choose("mood")
        visit.write(TEXT)
        visit.submit("Classify")
        assert visit.text_of("#headline") == best["label"]
        assert visit.text_of("#score").endswith(" %")
        others = visit.page.locator("#others li span:first-child").all_text_contents()
        assert others == [it["label"] for it in best["alternatives"]]
        assert {best["label"], *others} == set(LABELS)
        assert visit.page.locator("#others button").count() == 0
        assert visit.page.locator("#in-text").is_hidden()
        visit.write("the cat", "Second text (optional)")
        visit.submit("Classify")
        assert json.loads(visit.text_of("#raw"))["classes"][0]["label"] == pair["label"]
        assert "p=the+cat" in visit.page.url
        visit.choose("stars")
        visit.write("", "Second text (optional)")
        visit.submit("Classify")
        assert visit.text_of("#headline") == "stars"
        assert visit.text_of("#score") == f"{value['score']:.3f}"
        assert visit.faults == []


def test_a_task_of_ones_own(browser: Browser, server: Served) -> None:
    status, want, _ = server.ask("/v1/ask", {"inputs": ["the cat", TEXT]})
    assert status == 200
    with ModelVisit(browser, server) as visit:
        visit.write("stays")
        visit.choose("words")
        expect(visit.page.get_by_role("heading", level=1)).to_have_text("Compute texts")
        request = visit.page.get_by_label("Request", exact=True)
        assert json.loads(request.input_value()) == {"inputs": ["a text"]}
        request.fill(json.dumps({"inputs": ["the cat", TEXT]}))
        visit.submit("Send")
        assert json.loads(visit.text_of("#raw")) == want
        assert visit.page.locator("#raw").is_visible()
        for hidden in ("#best", "#in-text", "#runners-up", "#line"):
            assert visit.page.locator(hidden).is_hidden(), hidden
        link = visit.page.url
        for wrong, message in (("{", "The request is no JSON"), ("7", "is not an object")):
            request.fill(wrong)
            visit.page.get_by_role("button", name="Send").click()
            expect(visit.page.get_by_role("status")).to_contain_text(message)
            assert visit.page.locator("#result").is_hidden()
        visit.choose("names")
        assert visit.page.get_by_label("Text", exact=True).input_value() == "stays"
        visit.choose("words")
        assert request.input_value() == "7"
        assert visit.faults == []
    with ModelVisit(browser, server, "#" + link.partition("#")[2]) as visit:
        visit.page.locator("#result").wait_for()
        assert json.loads(visit.text_of("#raw")) == want


def test_switching_models(browser: Browser, server: Served) -> None:
    permissions = {"permissions": ["clipboard-read", "clipboard-write"]}
    with ModelVisit(browser, server, **permissions) as visit:
        model = visit.page.get_by_label("Model", exact=True)
        # Waits for the list of models, which comes after the page.
        expect(model.locator("option")).to_have_text(
            [f"{name} ({task})" for name, task in _MODELS.items()]
        )
        titles = set()
        for name in _MODELS:
            visit.choose(name)
            title = visit.text_of("#title")
            assert visit.page.title() == f"{title} - bert-rt"
            titles.add(title)
        assert len(titles) == len(set(_MODELS.values()))
        visit.choose("sums")
        visit.write(TEXT)
        visit.submit("Sum up")
        visit.choose("en-de")
        # The text stays, the result of the other model does not.
        assert visit.page.get_by_label("Text", exact=True).input_value() == TEXT
        assert visit.page.locator("#result").is_hidden()
        visit.submit("Translate")
        expect(visit.page.get_by_role("status")).to_contain_text("by en-de.")
        link = visit.page.url
        assert "m=en-de" in link
        visit.page.locator("#copy-curl").click()
        expect(visit.page.get_by_role("status")).to_contain_text("copied")
        assert '"model":"en-de"' in visit.page.evaluate("navigator.clipboard.readText()")
        # Links open in the same tab, too.
        visit.page.evaluate("location.hash = '#q=who+sat?&c=The+cat+sat.'")
        expect(visit.page.get_by_role("status")).to_contain_text("by squad.")
        visit.page.evaluate("location.hash = '#zz=1'")
        expect(visit.page.get_by_role("status")).to_contain_text("No model here takes")
        assert visit.faults == []
    with ModelVisit(browser, server, "#" + link.partition("#")[2]) as visit:
        expect(visit.page.get_by_role("status")).to_contain_text("by en-de.")
        assert visit.text_of("#passage") == TEXT


def test_a_response_that_comes_after_a_choice_is_dropped(browser: Browser, server: Served) -> None:
    with ModelVisit(browser, server) as visit:
        held: list[Any] = []

        def hold(route: Any) -> None:
            held.append(route)

        visit.page.route("**/v1/summarize", hold)
        visit.write(TEXT)
        visit.page.get_by_role("button", name="Sum up").click()
        visit.page.wait_for_function("document.getElementById('submit').disabled")
        visit.choose("en-de")
        assert visit.page.get_by_role("button", name="Translate").is_enabled()
        with visit.page.expect_response("**/v1/summarize"):
            held[0].continue_()
        visit.page.wait_for_timeout(200)
        assert visit.page.locator("#result").is_hidden()
        visit.submit("Translate")
        assert visit.faults == []


def test_an_old_link_finds_the_model_that_answers(browser: Browser, server: Served) -> None:
    with ModelVisit(browser, server, "#q=who+sat%3F&c=The+cat+sat.") as visit:
        expect(visit.page.get_by_role("status")).to_contain_text("by squad.")
        assert visit.page.get_by_label("Model", exact=True).input_value() == "squad"
        assert visit.page.get_by_label("Question", exact=True).input_value() == "who sat?"
        assert visit.text_of("#passage") == "The cat sat."


def test_by_keyboard_alone(browser: Browser, server: Served) -> None:
    with ModelVisit(browser, server) as visit:
        keyboard = visit.page.keyboard
        visit.page.locator("#form").wait_for()
        reached: list[str] = []

        def go_to(what: str) -> None:
            for _ in range(30):
                if visit.page.evaluate("what => document.activeElement.matches(what)", what):
                    return
                keyboard.press("Tab")
                reached.append(visit.page.evaluate("document.activeElement.id"))
            raise AssertionError(f"the keyboard does not reach {what}")

        go_to("#model")
        keyboard.type("en-de")
        go_to("#text")
        keyboard.insert_text(TEXT)
        keyboard.press("Control+Enter")
        visit.page.locator("#result").wait_for()
        go_to("#headline .piece")
        assert len(visit.marked("mark.other")) == 1
        top = visit.page.evaluate("scrollY")
        keyboard.press("Space")
        keyboard.press("Enter")
        assert visit.page.locator("#passage").is_visible()
        assert visit.page.evaluate("scrollY") >= top
        for what in ("#passage", "#copy-link", "#copy-curl", "summary"):
            go_to(what)
        assert {"model", "text", "file", "submit", "passage", "copy-link"} <= set(reached)
        assert visit.faults == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_task_on_a_telephone(browser: Browser, server: Served, scheme: str) -> None:
    look = {"viewport": {"width": 360, "height": 800}, "color_scheme": scheme}
    with ModelVisit(browser, server, **look) as visit:
        for name in _MODELS:
            visit.choose(name)
            assert not visit.is_wider_than_its_window(), name
            for example in visit.page.locator("#examples button").all():
                example.click()
                expect(visit.page.get_by_role("status")).to_contain_text(f"by {name}.")
                assert visit.page.locator("#result").is_visible()
                assert not visit.is_wider_than_its_window(), name
        assert visit.faults == []
