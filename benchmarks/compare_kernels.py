"""Two checkouts' kernels for an instruction set, as machine code: which functions changed.

    git worktree add --detach BEFORE dc4cec7
    python benchmarks/compare_kernels.py BEFORE . --isa amx_int8 --isa avx512vnni

Compiles runtime/csrc/isa/<isa> of both with their own CMakeLists.txt and the same compiler, and
compares the functions' instructions. Addresses, constants in memory, and where jumps and calls go
are left out. It needs cmake, ninja and objdump, and not a processor that could run the code: a
function of the same instructions takes the same time there. It measures nothing of those that
differ, and nothing outside of these kernels.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bert_rt.errors import ConfigError
from bert_rt.support.cli import run_command

# Parts of a function that the compiler made copies of or moved away count as that function's.
_HEADER = re.compile(r"^<(.+?)(?: \[clone [^]]*\])*>:$")
# Left out: what only fills the space up to an aligned address, and where a jump or a call goes.
_PADDING = ("nop", "xchg   %ax,%ax", "data16", "cs nop")
_JUMPS = ("j", "call")
_COMMENT = re.compile(r"\s+#.*$")
_OPTIONS = ("-DBERT_RT_PYTHON=OFF", "-DCMAKE_BUILD_TYPE=Release")


def functions(listing: str) -> dict[str, list[str]]:
    """Read what `objdump --disassemble --demangle --no-addresses --no-show-raw-insn` prints.

    Args:
        listing: Its output for object files.

    Returns:
        The instructions of each function, without places in the code and padding.
    """
    found: dict[str, list[str]] = {}
    body: list[str] = []
    for line in listing.splitlines():
        header = _HEADER.match(line)
        if header:
            body = found.setdefault(header[1], [])
        elif line.startswith("\t") and not line.strip().startswith(_PADDING):
            code = _COMMENT.sub("", line.strip())
            body.append(code.split()[0] if code.startswith(_JUMPS) else code)
    return found


def compare(
    before: Mapping[str, Sequence[str]], after: Mapping[str, Sequence[str]]
) -> list[tuple[str, str]]:
    """Say of each function that differs how: its name and a few words."""
    lines = []
    for name, body in before.items():
        other = after.get(name)
        if other is None:
            lines.append((name, f"gone ({len(body)} instructions)"))
        elif other != body:
            kinds = [Counter(line.split()[0] for line in code) for code in (body, other)]
            if kinds[0] == kinds[1]:
                lines.append((name, f"the same {len(body)} in other registers or another order"))
            else:
                lines.append((name, f"{len(body)} instructions before, {len(other)} now"))
    lines += [(name, f"new ({len(after[name])})") for name in after if name not in before]
    return lines


def disassembled(checkout: Path, isa: str, build: Path) -> dict[str, list[str]]:
    """Compile the kernels of an instruction set in a checkout, and read them."""
    folder = checkout / "runtime" / "csrc" / "isa" / isa
    if not folder.is_dir():
        raise ConfigError(f"--isa: got {isa!r}, want a folder of {folder.parent}")
    target = f"bert_rt_{isa}"
    configure = ["cmake", "-S", str(checkout), "-B", str(build), "-G", "Ninja", *_OPTIONS]
    for command in (configure, ["ninja", "-C", str(build), target]):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            said = (done.stdout + done.stderr)[-2000:]
            raise ConfigError(f"{checkout}: {' '.join(command)} failed: {said}")
    objects = sorted((build / "CMakeFiles" / f"{target}.dir").rglob("*.o"))
    options = ["--disassemble", "--demangle", "--no-addresses", "--no-show-raw-insn"]
    listing = subprocess.run(
        ["objdump", *options, *map(str, objects)], capture_output=True, text=True, check=True
    ).stdout
    return functions(listing)


def main(argv: Sequence[str]) -> None:
    """Print the functions that differ, for every instruction set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, metavar="BEFORE", help="a checkout")
    parser.add_argument("after", type=Path, metavar="AFTER", help="another one")
    parser.add_argument(
        "--isa", action="append", required=True, help="a folder of runtime/csrc/isa"
    )
    args = parser.parse_args(argv)
    for isa in args.isa:
        with tempfile.TemporaryDirectory() as build:
            before, after = (
                disassembled(checkout.resolve(), isa, Path(build) / side)
                for side, checkout in (("before", args.before), ("after", args.after))
            )
        changed = compare(before, after)
        num_same = sum(body == after.get(name) for name, body in before.items())
        print(f"{isa}: {num_same} of {len(before)} functions have the same instructions")
        for name, words in changed:
            print(f"  {name}: {words}")


if __name__ == "__main__":
    sys.exit(run_command(main))
