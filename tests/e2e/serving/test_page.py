"""The page in a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.support.serving.browser import Visit
from tests.support.serving.server import Served, served

_SHOTS = Path(__file__).parents[3] / "docs" / "serving"
# Two code units each for JavaScript, one character for the service.
_CONTEXT = "\U0001f600\U0001f680 \U0001d54f The cat sat on the mat in Paris. It slept there."
_QUESTION = "In which city did the cat sit?"


def _ask(visit: Visit, question: str, passage: str) -> None:
    visit.page.get_by_label("Passage", exact=True).fill(passage)
    visit.page.get_by_label("Question", exact=True).fill(question)
    visit.submit("Ask")


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(["runtime.serve", "--port", "0"]) as server:
        yield server


def test_a_question_is_answered_in_place(browser: Browser, server: Served) -> None:
    _, want, _ = server.ask("/v1/answer", {"question": _QUESTION, "context": _CONTEXT, "top_k": 4})
    best = want["answers"][0]
    assert best["start"] > 3 and "Paris" in best["text"]
    with Visit(browser, server) as visit:
        _ask(visit, _QUESTION, _CONTEXT)
        assert visit.page.locator("#headline").text_content() == best["text"]
        assert visit.marked() == [best["text"]]
        assert visit.page.locator("#passage").text_content() == _CONTEXT
        before = visit.page.evaluate(
            "document.querySelector('#passage mark').previousSibling.textContent"
        )
        assert before == _CONTEXT[: best["start"]]
        others = visit.page.locator("#others button")
        assert others.all_text_contents() == [it["text"] for it in best["alternatives"]]
        for index, other in enumerate(best["alternatives"]):
            others.nth(index).focus()
            assert "".join(visit.marked("mark.other")) == other["text"]
        others.last.blur()
        assert visit.marked("mark.other") == []
        others.first.hover()
        assert visit.marked("mark.other") != []
        assert f"{want['usage']['tokens']} tokens in" in str(
            visit.page.get_by_role("status").text_content()
        )
        assert visit.faults == []
        assert {url for url in visit.urls if not url.startswith(visit.home)} == set()


def test_a_link_reproduces_the_question(browser: Browser, server: Served) -> None:
    with Visit(browser, server) as visit:
        _ask(visit, _QUESTION, _CONTEXT)
        marked, link = visit.marked(), visit.page.url
    assert _CONTEXT not in link and "#q=" in link
    with Visit(browser, server, "#" + link.partition("#")[2]) as visit:
        visit.page.locator("#result").wait_for()
        assert visit.marked() == marked
    # What stands behind the "#" stays in the browser.
    assert any('"/v1/answer"' in line for line in server.logs)
    assert "sat" not in "".join(server.logs)


def test_by_keyboard_alone(browser: Browser, server: Served) -> None:
    with Visit(browser, server) as visit:
        keyboard = visit.page.keyboard
        visit.page.get_by_label("Passage", exact=True).focus()
        keyboard.insert_text(_CONTEXT)
        visit.page.get_by_label("Question", exact=True).focus()
        keyboard.insert_text(_QUESTION)
        keyboard.press("Enter")
        visit.page.locator("#result").wait_for()
        reached = set()
        for _ in range(30):
            keyboard.press("Tab")
            reached.add(visit.page.evaluate("document.activeElement.id"))
        assert {"copy-link", "copy-curl", "passage", "submit", "file"} <= reached


def test_mistakes_and_files(browser: Browser, server: Served, tmp_path: Path) -> None:
    text, binary = tmp_path / "a.txt", tmp_path / "b.txt"
    text.write_text("The caf\u00e9 is in Paris.", "utf-8")
    binary.write_bytes(b"\xff\xfe\x00")
    with Visit(browser, server) as visit:
        status = visit.page.get_by_role("status")
        visit.page.get_by_role("button", name="Ask").click()
        assert "The passage is empty." in str(status.text_content())
        visit.page.locator("#file").set_input_files(binary)
        expect(status).to_contain_text("not a text in UTF-8")
        visit.page.locator("#file").set_input_files(text)
        expect(status).to_contain_text("a.txt is the passage now")
        passage = visit.page.get_by_label("Passage", exact=True)
        assert passage.input_value() == "The caf\u00e9 is in Paris."
        visit.page.get_by_label("Question").evaluate("it => (it.value = '\\u0000?')")
        visit.page.get_by_role("button", name="Ask").click()
        expect(status).to_contain_text("question: got a NUL")
        assert visit.page.locator("#result").is_hidden()


def test_copying(browser: Browser, server: Served) -> None:
    permissions = {"permissions": ["clipboard-read", "clipboard-write"]}
    with Visit(browser, server, **permissions) as visit:
        _ask(visit, _QUESTION, "It's the cat's mat in Paris.")
        visit.page.get_by_role("button", name="Copy as curl").click()
        expect(visit.page.get_by_role("status")).to_contain_text("copied")
        command = visit.page.evaluate("navigator.clipboard.readText()")
        assert command.startswith(f"curl '{visit.home}v1/answer'") and "It'\\''s" in command
        visit.page.get_by_text("Raw JSON").click()
        assert '"answers"' in str(visit.page.locator("#raw").text_content())


@pytest.mark.parametrize(
    ("name", "width", "scheme"),
    [("light", 900, "light"), ("dark", 900, "dark"), ("narrow", 360, "light")],
)
def test_every_look(browser: Browser, server: Served, name: str, width: int, scheme: str) -> None:
    look = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
    with Visit(browser, server, **look) as visit:
        visit.page.get_by_role("button", name="a launch").click()
        visit.page.locator("#result").wait_for()
        assert not visit.is_wider_than_its_window()
        body = visit.page.evaluate(
            "['color', 'backgroundColor'].map(it => getComputedStyle(document.body)[it])"
        )
        assert _contrast(*body) > 7
        if os.environ.get("BERT_RT_UPDATE_SCREENSHOTS") == "1":
            visit.page.screenshot(path=_SHOTS / f"page-{name}.png", full_page=True)
        assert (_SHOTS / f"page-{name}.png").is_file()
        visit.page.goto(visit.home + "docs")
        assert not visit.is_wider_than_its_window()
        assert visit.faults == []


def _contrast(*colors: str) -> float:
    """Return the contrast of two colors, as WCAG 2 defines it."""
    levels = []
    for color in colors:
        parts = [int(it) / 255 for it in color[color.index("(") + 1 : -1].split(",")[:3]]
        linear = [it / 12.92 if it <= 0.04045 else ((it + 0.055) / 1.055) ** 2.4 for it in parts]
        levels.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(levels) + 0.05) / (min(levels) + 0.05)
