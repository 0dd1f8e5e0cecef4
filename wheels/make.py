"""make wheels: manylinux wheels with the native engine, for x86-64 and ARM64, checked.

    python wheels/make.py [--machine x86_64] [--dist DIR]

Of each processor two: one for Python 3.11, one with the stable ABI for 3.12 and every later one.
The Python files are the same in all; they are packed once and the native module is added.

The kernels are compiled by g++, which makes the faster ones. The rest is compiled, and all is
linked, by zig's clang, which brings the symbols of an old C library and a C++ library to link
statically: so a wheel runs on systems since 2014 whatever this machine has. The kernels need no
C++ library (their folder includes none that has code), so that the two do not mix.

Then auditwheel and abi3audit look at each wheel, and a bare Python of each version that Debian has
answers a question with it; all must give the same answer with the same score to 12 digits. What
cannot be had here is skipped and named.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from debian import MissingToolError, Tree, need

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "wheels"
# Those of this Python's environment: Debian 12's CMake knows nothing of the stable ABI.
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
CMAKE = (sys.executable, "-m", "cmake")
# The C library of the manylinux2014 standard.
GLIBC = (2, 17)
MACHINES = ("x86_64", "aarch64")
KERNEL_COMPILERS = {
    "x86_64": ("x86_64-linux-gnu-g++", "g++"),
    "aarch64": ("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu"),
}
# What CMakeLists.txt else asks the compiler for.
KERNEL_OPTIONS = {"x86_64": "AMX AVXVNNI", "aarch64": "I8MM"}
# What answers the question: printed as JSON by a bare environment.
ASK = """
import json, platform
from bert_rt import Runtime, _native
with Runtime.load(engine="native") as runtime:
    answer = runtime.answer("Where do bees live?", "Bees make honey. They live in a hive.")
    print(json.dumps({
        "python": platform.python_version(), "machine": platform.machine(),
        "module": _native.__file__.rsplit("/")[-1], "isa": runtime.info.isa,
        "answer": answer.text, "score": answer.score,
    }))
"""


@dataclass(frozen=True)
class Kind:
    """A wheel to make for each processor.

    Attributes:
        tag: Its tags of Python and ABI.
        release: The Debian release whose headers are compiled against.
        checked_on: Releases, with their Python, that ask it a question.
    """

    tag: str
    release: str
    checked_on: dict[str, str]


KINDS = (
    Kind("cp311-cp311", "bookworm", {"bookworm": "3.11"}),
    Kind("cp312-abi3", "trixie", {"trixie": "3.13", "sid": "3.14"}),
)


def run(*command: str | Path, **variables: str) -> str:
    """Run a program; where it fails, end with what it wrote.

    Args:
        command: Program and arguments.
        variables: More environment variables.

    Returns:
        What it wrote to its standard output.
    """
    words = [str(word) for word in command]
    environment = {**os.environ, **variables}
    done = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        wrote = (done.stdout + done.stderr)[-6000:]
        sys.exit(f"{wrote}\nerror: {' '.join(words)} ended with {done.returncode}")
    return done.stdout


def tree(release: str, python: str, machine: str) -> Tree:
    """Name a release's Python; it lies in a folder that later runs use again."""
    return Tree(release, python, machine, WORK / "trees" / f"{release}-{machine}")


def make_python_wheel() -> Path:
    """Pack the Python files and the embedded model, without the native module.

    Returns:
        A wheel's unpacked folder.
    """
    folder = WORK / "python"
    shutil.rmtree(folder, ignore_errors=True)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet")
    settings = ("--config-settings=wheel.cmake=false", "--config-settings=wheel.py-api=py3")
    run(*pip, "--no-deps", *settings, "--wheel-dir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    run(sys.executable, "-m", "wheel", "unpack", "--dest", folder, wheel)
    (unpacked,) = (path for path in folder.iterdir() if path.is_dir())
    return unpacked


def write_toolchain(machine: str, headers: Path, folder: Path) -> Path:
    """Write what CMake takes for one compiler: g++ for kernels, zig's clang for all else.

    Args:
        machine: The processor.
        headers: A folder with Python's, looked into last.
        folder: Where to write.

    Returns:
        A toolchain file of CMake.

    Raises:
        MissingToolError: There is no g++ for the processor.
    """
    kernels = need(*KERNEL_COMPILERS[machine])
    version = ".".join(map(str, GLIBC))
    zig = f"{sys.executable} -m ziglang"
    # nanobind leaves it to Python.h, which under the stable ABI leaves it to the C++ library.
    include = f"-include stdio.h -idirafter {headers}"
    compiler = folder / "c++"
    compiler.write_text(
        f"""#!/bin/sh
case "$* " in *" -c "*/runtime/csrc/*isa/*) exec {kernels} "$@" ;; esac
exec {zig} c++ -target {machine}-linux-gnu.{version} {include} "$@"
"""
    )
    for name in ("ar", "ranlib"):
        (folder / name).write_text(f'#!/bin/sh\nexec {zig} {name} "$@"\n')
    for name in ("c++", "ar", "ranlib"):
        (folder / name).chmod(0o755)
    toolchain = folder / "toolchain.cmake"
    toolchain.write_text(
        f"""set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR {machine})
set(CMAKE_CXX_COMPILER {compiler})
set(CMAKE_AR {folder / "ar"} CACHE FILEPATH "")
set(CMAKE_RANLIB {folder / "ranlib"} CACHE FILEPATH "")
# What the kernels' compiler has. zig takes other words for ARM64's instruction sets.
foreach(name {KERNEL_OPTIONS[machine]})
  set(BERT_RT_${{name}} ON CACHE INTERNAL "")
endforeach()
"""
    )
    return toolchain


def build_module(kind: Kind, machine: str, version: str) -> Path:
    """Compile the native module.

    All kinds of a processor are built in one folder: what knows nothing of Python, nearly all, is
    compiled once.

    Args:
        kind: The wheel's kind.
        machine: The processor.
        version: Version of the package.

    Returns:
        The module.

    Raises:
        MissingToolError: A compiler or Python's headers cannot be had.
    """
    python = tree(kind.release, kind.checked_on[kind.release], machine)
    python.unpack()
    folder = (WORK / machine).resolve()
    tools = folder / "tools"
    tools.mkdir(parents=True, exist_ok=True)
    for module in folder.glob("_native.*so"):
        module.unlink()
    settings = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_TOOLCHAIN_FILE": write_toolchain(machine, python.include, tools),
        "BERT_RT_STABLE_ABI": "ON" if kind.tag.endswith("abi3") else "OFF",
        "Python_INCLUDE_DIR": python.include / f"python{python.python}",
        "Python_EXECUTABLE": python.interpreter(tools / "python"),
        "SKBUILD_PROJECT_VERSION": version,
        "nanobind_DIR": run(sys.executable, "-m", "nanobind", "--cmake_dir").strip(),
    }
    # What an earlier kind found out about its Python is forgotten.
    flags = [f"-U{name}" for name in ("*Python*", "NB_*")]
    flags += [f"-D{name}={value}" for name, value in settings.items()]
    run(*CMAKE, "-S", ROOT, "-B", folder, "-G", "Ninja", *flags, PATH=PATH)
    run(*CMAKE, "--build", folder, PATH=PATH)
    (module,) = folder.glob("_native.*so")
    return module


def pack(unpacked: Path, module: Path, kind: Kind, machine: str, dist: Path) -> Path:
    """Put the module among the Python files, pack them, and let auditwheel name the system.

    Args:
        unpacked: What make_python_wheel made.
        module: The native module.
        kind: The wheel's kind.
        machine: The processor.
        dist: Where the wheel goes.

    Returns:
        The wheel.
    """
    folder = WORK / f"{kind.tag}-{machine}"
    shutil.rmtree(folder, ignore_errors=True)
    copy = folder / unpacked.name
    shutil.copytree(unpacked, copy)
    shutil.copy2(module, copy / "bert_rt" / module.name)
    (facts,) = copy.glob("*.dist-info/WHEEL")
    lines = facts.read_text().splitlines()
    kept = [line for line in lines if line and not line.startswith(("Tag:", "Root-Is-Purelib:"))]
    kept += ["Root-Is-Purelib: false", f"Tag: {kind.tag}-linux_{machine}"]
    facts.write_text("\n".join(kept) + "\n")
    run(sys.executable, "-m", "wheel", "pack", "--dest-dir", folder, copy)
    (raw,) = folder.glob("*.whl")
    made = folder / "made"
    run(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", made, raw, PATH=PATH)
    (wheel,) = made.glob("*.whl")
    dist.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy2(wheel, dist / wheel.name))


def check(wheel: Path, kind: Kind, machine: str) -> None:
    """Look at a wheel without running it; end where something is wrong.

    Args:
        wheel: The wheel.
        kind: What it shall be.
        machine: The processor that it shall be for.
    """
    wanted = f"-{kind.tag}-manylinux_{GLIBC[0]}_{GLIBC[1]}_{machine}"
    if wanted not in wheel.name.replace("manylinux2014_" + machine + ".", ""):
        sys.exit(f"error: {wheel.name}: want it to be {wanted[1:]}")
    if kind.tag.endswith("abi3"):
        run(sys.executable, "-m", "abi3audit", "--strict", wheel)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    models = [name for name in names if name.endswith(".onnx")]
    modules = [name for name in names if name.endswith(".so")]
    if models != ["bert_rt/default_model/model.onnx"] or len(modules) != 1:
        sys.exit(f"error: {wheel.name}: want one model and one module, got {models} {modules}")


def ask(wheel: Path, python: Tree) -> dict[str, str]:
    """Install a wheel and what it needs for a bare Python, and ask it a question there.

    Args:
        wheel: The wheel.
        python: The Python.

    Returns:
        What ASK prints.

    Raises:
        MissingToolError: The Python cannot be had.
    """
    python.unpack()
    site = python.folder / "opt" / "site"
    shutil.rmtree(site, ignore_errors=True)
    # pip chooses as it would there, by the tags: a wheel with wrong ones is refused.
    systems = [f"manylinux_2_{minor}_{python.machine}" for minor in range(28, GLIBC[1] - 1, -1)]
    systems += [f"manylinux2014_{python.machine}"]
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    arguments = ["--target", str(site), "--only-binary=:all:", "--implementation=cp"]
    arguments += [f"--platform={system}" for system in systems]
    short = python.python.replace(".", "")
    arguments += [f"--python-version={python.python}", f"--abi=cp{short}", "--abi=abi3"]
    run(*pip, *arguments, "--abi=none", wheel)
    done = python.run(ASK, site)
    if done.returncode != 0:
        sys.exit(f"{done.stdout}{done.stderr}\nerror: {wheel.name} fails on Python {python.python}")
    answered: dict[str, str] = json.loads(done.stdout)
    return answered


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--machine", choices=MACHINES, help="this processor only")
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", metavar="DIR")
    parser.add_argument("--keep", action="store_true", help="compile what has changed only")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Make the wheels, check them, and print a line for each and for what was skipped."""
    args = parse(argv)
    skipped: list[str] = []
    answers = set()
    unpacked = make_python_wheel()
    version = unpacked.name.rsplit("-", 1)[1]
    for machine in [args.machine] if args.machine else MACHINES:
        if not args.keep:
            shutil.rmtree(WORK / machine, ignore_errors=True)
        for kind in KINDS:
            try:
                module = build_module(kind, machine, version)
            except MissingToolError as error:
                skipped.append(f"wheel {kind.tag} for {machine}: {error}")
                continue
            wheel = pack(unpacked, module, kind, machine, args.dist)
            check(wheel, kind, machine)
            size, own = wheel.stat().st_size / 1e6, module.stat().st_size / 1e6
            print(f"{wheel.name}: {size:.1f} MB, of it {own:.1f} MB module before compression")
            for release, python in kind.checked_on.items():
                try:
                    told = ask(wheel, tree(release, python, machine))
                except MissingToolError as error:
                    skipped.append(f"question to {kind.tag} on Python {python}, {machine}: {error}")
                    continue
                # Logits are equal to the bit; numpy's exp is not on all processors.
                answers.add((told["answer"], round(float(told["score"]), 12)))
                print("  " + ", ".join(f"{name} {value}" for name, value in told.items()))
    if len(answers) > 1:
        sys.exit(f"error: wheels answer differently: {sorted(answers)}")
    print("Python 3.12: Debian has none; its wheel is checked on later ones and by abi3audit")
    for line in skipped:
        print(f"skipped: {line}")
    return 0 if answers else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
