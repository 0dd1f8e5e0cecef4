"""What counts as the same machine code, on listings as objdump prints them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.compare_kernels import compare, disassembled, functions
from bert_rt.errors import ConfigError

LISTING = """
gemm.o:     file format elf64-x86-64

Disassembly of section .text:

<f(int)>:
\tlea    0x1(%rdi,%rdi,2),%eax
\tret
\tnopl   0x0(%rax,%rax,1)

<float g<float>(float*, int)>:
\tjle    <float g<float>(float*, int)+0x80>
\tvaddps 0x0(%rip),%ymm0,%ymm0        # <float g<float>(float*, int)+0x8>
\tdata16 cs nopw 0x0(%rax,%rax,1)
\tvmulps %ymm1,%ymm0,%ymm0
\tret
"""


def test_padding_and_places_are_left_out() -> None:
    assert functions(LISTING) == {
        "f(int)": ["lea    0x1(%rdi,%rdi,2),%eax", "ret"],
        "float g<float>(float*, int)": [
            "jle",
            "vaddps 0x0(%rip),%ymm0,%ymm0",
            "vmulps %ymm1,%ymm0,%ymm0",
            "ret",
        ],
    }


def test_a_jump_elsewhere_and_other_padding_are_no_difference() -> None:
    moved = LISTING.replace("+0x80", "+0x90").replace("nopl   0x0(%rax,%rax,1)", "xchg   %ax,%ax")
    assert moved != LISTING
    assert compare(functions(LISTING), functions(moved)) == []


def test_each_kind_of_difference_is_told() -> None:
    registers = LISTING.replace("%ymm1", "%ymm2")
    name = "float g<float>(float*, int)"
    assert compare(functions(LISTING), functions(registers)) == [
        (name, "the same 4 in other registers or another order")
    ]
    shorter = LISTING.replace("\tvmulps %ymm1,%ymm0,%ymm0\n", "")
    assert compare(functions(LISTING), functions(shorter)) == [
        (name, "4 instructions before, 3 now")
    ]
    renamed = LISTING.replace("f(int)", "h(int)")
    assert compare(functions(LISTING), functions(renamed)) == [
        ("f(int)", "gone (2 instructions)"),
        ("h(int)", "new (2)"),
    ]


def test_copies_of_a_function_are_all_of_it() -> None:
    clone = "<f(int) [clone .cold]>:\n\tud2\n"
    assert functions(LISTING + clone)["f(int)"] == ["lea    0x1(%rdi,%rdi,2),%eax", "ret", "ud2"]


def test_an_instruction_set_that_a_checkout_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--isa: got 'avx1', want a folder of .*isa$"):
        disassembled(tmp_path, "avx1", tmp_path / "build")


def test_a_build_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runtime" / "csrc" / "isa" / "avx2").mkdir(parents=True)
    cmake = tmp_path / "cmake"
    cmake.write_text("#!/bin/sh\necho no CMakeLists.txt here >&2\nexit 1\n")
    cmake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(ConfigError, match="failed: no CMakeLists"):
        disassembled(tmp_path, "avx2", tmp_path / "build")
