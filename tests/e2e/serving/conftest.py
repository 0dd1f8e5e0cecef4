"""A browser for the tests of the page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.e2e.serving.test_docs import need
from tests.support.serving.browser import opened


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with opened(need("chromium")) as browser:
        yield browser
