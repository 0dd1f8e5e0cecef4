"""The console script: a table of verbs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from bert_rt import __main__ as console


def _write_program(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (folder / "bert_rt_fake_program.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setitem(console.VERBS, "fake", "bert_rt_fake_program")


def _run(monkeypatch: pytest.MonkeyPatch, *argv: str) -> int:
    monkeypatch.setattr(sys, "argv", ["bert-rt", *argv])
    return console.main()


@pytest.mark.parametrize("argv", [["nonsense", "--x"], [], ["--version_2"]])
def test_an_unknown_verb_is_one_line_that_lists_the_verbs(
    argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, *argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert all(verb in err for verb in console.VERBS)


def test_help_lists_the_verbs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "--help") == 0
    assert ", ".join(sorted(console.VERBS)) in capsys.readouterr().out


def test_a_verb_runs_its_module_with_the_other_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _write_program(tmp_path, monkeypatch, "import sys\nprint(__name__, sys.argv[1:])\nsys.exit(7)")
    with pytest.raises(SystemExit) as caught:
        _run(monkeypatch, "fake", "--a", "b c")
    assert caught.value.code == 7
    assert capsys.readouterr().out == "__main__ ['--a', 'b c']\n"


def test_a_library_that_a_verb_lacks_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "raise ModuleNotFoundError('No module', name='openvino.runtime')"
    _write_program(tmp_path, monkeypatch, text)
    assert _run(monkeypatch, "fake") == 2
    assert "pip install 'bert-rt[openvino]'" in capsys.readouterr().err


@pytest.mark.parametrize("module", sorted(console.VERBS.values()))
def test_every_verb_has_its_module(module: str) -> None:
    assert importlib.util.find_spec(module) is not None
