from __future__ import annotations

import pytest

from train.loop.allocator import allocator_advice


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the allocators that are found; add to it."""
    names: set[str] = set()
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.setattr(
        "ctypes.util.find_library", lambda name: f"lib{name}.so.9" if name in names else None
    )
    return names


def test_names_the_library_to_preload(installed: set[str]) -> None:
    installed.add("tcmalloc_minimal")

    advice = allocator_advice()

    assert advice is not None
    assert "LD_PRELOAD=libtcmalloc_minimal.so.9" in advice


def test_prefers_jemalloc(installed: set[str]) -> None:
    installed |= {"tcmalloc", "jemalloc"}

    assert "LD_PRELOAD=libjemalloc.so.9" in (allocator_advice() or "")


def test_says_nothing_where_none_is_installed(installed: set[str]) -> None:
    assert allocator_advice() is None


@pytest.mark.parametrize(
    ("preloaded", "system"),
    [("/usr/lib/libtcmalloc_minimal.so.4", "linux"), ("", "darwin")],
    ids=["one is preloaded", "another system"],
)
def test_says_nothing_where_it_is_of_no_use(
    installed: set[str], monkeypatch: pytest.MonkeyPatch, preloaded: str, system: str
) -> None:
    installed.add("jemalloc")
    monkeypatch.setenv("LD_PRELOAD", preloaded)
    monkeypatch.setattr("sys.platform", system)

    assert allocator_advice() is None
