"""The console script: a table of verbs."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bert_rt import __main__ as console


def _write_program(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    package = folder / "bert_rt_fake"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "program.py").write_text(text)
    # As if the package were installed beside bert_rt; Python does not find it by itself.
    monkeypatch.setattr(console, "_HERE", str(folder / "bert_rt"))
    monkeypatch.setitem(console.VERBS, "fake", "bert_rt_fake.program")
    monkeypatch.delitem(sys.modules, "bert_rt_fake", raising=False)


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


def test_a_missing_library_of_a_verb_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "raise ModuleNotFoundError('No module', name='matplotlib.pyplot')"
    _write_program(tmp_path, monkeypatch, text)
    assert _run(monkeypatch, "fake") == 2
    assert "pip install 'bert-rt[train]'" in capsys.readouterr().err


@pytest.mark.parametrize("module", sorted(console.VERBS.values()))
def test_every_verb_has_its_module(module: str) -> None:
    assert importlib.util.find_spec(module) is not None


def test_every_command_is_a_verb() -> None:
    root = Path(console.__file__).parents[1]
    commands = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__main__")
        for program in ("train", "compile", "runtime")
        for path in (root / program).rglob("*.py")
        if "sys.exit(run_command(main))" in path.read_text()
    }
    assert commands == set(console.VERBS.values())
    assert all(verb == module.split(".")[1] for verb, module in console.VERBS.items())


# What `bert-rt` does where bert_rt was installed from a wheel: without the finder of an editable
# installation, which comes before all directories.
_CONSOLE = """
import sys
sys.meta_path[:] = [one for one in sys.meta_path if "Redirecting" not in type(one).__name__]
from bert_rt.__main__ import main
sys.exit(main())
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Return a directory that holds the packages, as site-packages does."""
    directory = tmp_path / "site"
    directory.mkdir()
    root = Path(console.__file__).parents[1]
    for name in ("bert_rt", "train", "compile", "runtime"):
        (directory / name).symlink_to(root / name)
    return directory


def _run_installed(
    installed: Path, cwd: Path, *argv: str, first: tuple[Path, ...] = ()
) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, (*first, installed)))
    return subprocess.run(
        [sys.executable, "-c", _CONSOLE, *argv],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("is_package", [False, True])
@pytest.mark.parametrize(
    ("verb", "package"), [("vocab", "train"), ("verify", "compile"), ("doctor", "runtime")]
)
@pytest.mark.parametrize("by", ["cwd", "PYTHONPATH"])
def test_a_file_of_a_program_s_name_hides_nothing(
    installed: Path, tmp_path: Path, verb: str, package: str, is_package: bool, by: str
) -> None:
    hostile = tmp_path / "mine"
    hostile.mkdir()
    file = hostile / f"{package}.py"
    if is_package:
        file = hostile / package / "__init__.py"
        file.parent.mkdir()
    file.write_text("raise SystemExit('the wrong one')")
    cwd, first = (hostile, ()) if by == "cwd" else (tmp_path, (hostile,))
    result = _run_installed(installed, cwd, verb, "--help", first=first)
    assert result.returncode == 0, result.stderr
    module = console.VERBS[verb]
    assert result.stdout.startswith(f"usage: python -m {module} ")
    # python -c puts the current directory first, as python -m does.
    assert result.stderr == (
        f"note: {file} hides bert-rt's own package {package!r} from Python; this command runs "
        f"bert-rt's, python -m {module} would not\n"
    )


def test_nothing_is_said_where_nothing_is_hidden(installed: Path, tmp_path: Path) -> None:
    result = _run_installed(installed, tmp_path, "vocab", "--help")
    assert (result.returncode, result.stderr) == (0, "")


def test_the_console_script_works_beside_a_hostile_file(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("raise SystemExit('the wrong one')")
    script = Path(sys.executable).with_name("bert-rt")
    result = subprocess.run(
        [script, "vocab", "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("usage: python -m train.vocab")
