"""The page in a real browser: Debian's Chromium, driven by Playwright.

    python -m tests.support.serving.browser [NAME=]ARTIFACT FILE.png

takes a picture of the page after the first example of the artifact's task, for docs/serving.md.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.serving.server import Served, served

_WAIT_MS = 30_000


@contextmanager
def opened(path: str | None) -> Iterator[Browser]:
    """Start the browser of a path."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A page that is open, and what went wrong or left this machine."""

    def __init__(self, browser: Browser, server: Served, fragment: str = "", **context: Any):
        self.context = browser.new_context(**{"viewport": {"width": 900, "height": 1000}} | context)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(_WAIT_MS)
        self.faults: list[str] = []
        self.urls: list[str] = []
        self.page.on("console", lambda it: self.faults.append(it.text) if it.type != "log" else 0)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.urls.append(request.url))
        self.home = f"http://127.0.0.1:{server.port}/"
        self.page.goto(self.home + fragment)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def submit(self, button: str) -> None:
        """Send the request, and wait for its result, also where one is shown already."""
        self.page.get_by_role("button", name=button, exact=True).click()
        self.page.locator("#submit:enabled").wait_for()
        self.page.locator("#result").wait_for()

    def marked(self, selector: str = "mark") -> list[str]:
        """Return what is marked in the text."""
        return self.page.locator(f"#passage {selector}").all_text_contents()

    def text_of(self, selector: str) -> str:
        """Return the text of an element."""
        return str(self.page.locator(selector).text_content())

    def is_wider_than_its_window(self) -> bool:
        """Tell whether one has to scroll sideways."""
        root = "document.documentElement"
        return bool(self.page.evaluate(f"{root}.scrollWidth > {root}.clientWidth"))


def main() -> None:
    """Take the picture that the command line names."""
    artifact, file = sys.argv[1:]
    with (
        served(["runtime.serve", "--port", "0", "--artifact", artifact]) as server,
        opened(shutil.which("chromium")) as browser,
        Visit(browser, server, viewport={"width": 900, "height": 500}) as visit,
    ):
        for _ in range(2):  # The first request is slower than those after it.
            with visit.page.expect_response("**/v1/*"):
                visit.page.locator("#examples button").first.click()
            visit.page.locator("#result").wait_for()
        pieces = visit.page.locator("#headline .piece")
        if pieces.count():
            pieces.first.hover()
        visit.page.screenshot(path=file, full_page=True)


if __name__ == "__main__":
    main()
