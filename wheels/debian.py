"""Pythons of several versions and processors: Debian's packages, unpacked into folders.

They are never installed. Their headers are compiled against, and their interpreter runs: as a
program of this machine while a module is configured, or as a bare environment by chroot when a
finished wheel is asked a question. Those for ARM64 run under qemu.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

# In all releases that are used here, the programs' folders are links into /usr.
_MERGED = ("bin", "lib", "lib64", "sbin")
_PACKAGES = "python3,libpython3-dev"
_DEBIAN_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}
_EMULATOR = "qemu-aarch64-static"


class MissingToolError(Exception):
    """Something that this machine does not have; the message says what, and how to get it."""


@dataclass(frozen=True)
class Tree:
    """A Debian release's Python for one processor.

    Attributes:
        release: Debian's name of the release.
        python: The version that it brings, "3.13", say.
        machine: "x86_64" or "aarch64".
        folder: Where it is, or shall be, unpacked.
    """

    release: str
    python: str
    machine: str
    folder: Path

    @property
    def include(self) -> Path:
        """The folder with the headers of all processors."""
        return self.folder / "usr" / "include"

    @property
    def _program(self) -> Path:
        return self.folder / "usr" / "bin" / f"python{self.python}"

    def unpack(self) -> None:
        """Fetch and unpack it, where an earlier run has not.

        Raises:
            MissingToolError: debootstrap or root is missing, a package could not be had, or the
                release has another Python by now.
        """
        if not self._program.exists():
            self._fetch()
        if not self._program.exists():
            raise MissingToolError(f"Debian {self.release} has no Python {self.python} (any more)")
        if self.machine == "aarch64":
            emulator = need(_EMULATOR, "qemu-user-static")
            shutil.copy2(emulator, self.folder / _EMULATOR)

    def _fetch(self) -> None:
        debootstrap = need("debootstrap", "debootstrap")
        if os.geteuid() != 0:
            raise MissingToolError("debootstrap works for root only")
        shutil.rmtree(self.folder, ignore_errors=True)
        fetched = self.folder.with_name(self.folder.name + ".fetched")
        command = [debootstrap, "--download-only", "--variant=minbase", f"--include={_PACKAGES}"]
        command += [f"--arch={_DEBIAN_NAMES[self.machine]}", self.release, str(fetched)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise MissingToolError(f"debootstrap failed: {(done.stdout + done.stderr)[-400:]}")
        # Under another name until it is whole.
        half = self.folder.with_name(self.folder.name + ".half")
        shutil.rmtree(half, ignore_errors=True)
        for name in _MERGED:
            (half / "usr" / name).mkdir(parents=True)
            (half / name).symlink_to(f"usr/{name}")
        for package in sorted(fetched.glob("var/cache/apt/archives/*.deb")):
            # Not `dpkg-deb -x`, which puts folders in place of those links.
            files = subprocess.run(
                ["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE, check=True
            )
            unpack = ["tar", "--extract", "--keep-directory-symlink", "--directory", half]
            subprocess.run(unpack, input=files.stdout, check=True)
        half.rename(self.folder)
        shutil.rmtree(fetched)

    def interpreter(self, path: Path) -> Path:
        """Write a script that runs this Python here, with its own C library.

        Args:
            path: The script's path.

        Returns:
            The same.
        """
        if self.machine == "aarch64":
            start = f"{need(_EMULATOR, 'qemu-user-static')} -L {self.folder}"
        else:
            libraries = self.folder / "usr" / "lib" / "x86_64-linux-gnu"
            loader = libraries / "ld-linux-x86-64.so.2"
            start = f"{loader} --library-path {libraries}"
        path.write_text(f'#!/bin/sh\nexec {start} {self._program} "$@"\n')
        path.chmod(0o755)
        return path

    def run(self, code: str, site: Path) -> subprocess.CompletedProcess[str]:
        """Run Python code where nothing but this tree is to be seen.

        Args:
            code: The code.
            site: A folder inside the tree with installed packages.

        Returns:
            What the process gave.
        """
        emulator = [f"/{_EMULATOR}"] if self.machine == "aarch64" else []
        inside = f"/{site.relative_to(self.folder)}"
        python = f"/usr/bin/python{self.python}"
        return subprocess.run(
            [need("chroot", "coreutils"), str(self.folder), *emulator, python, "-c", code],
            env={"PYTHONPATH": inside, "HOME": "/tmp", "PATH": "/usr/bin"},
            capture_output=True,
            text=True,
        )


def need(program: str, package: str) -> str:
    """Find a program.

    Args:
        program: Its name.
        package: Debian's package of it.

    Returns:
        Its path.

    Raises:
        MissingToolError: It is not installed.
    """
    path = shutil.which(program)
    if path is None:
        raise MissingToolError(f"{program} is not installed (apt-get install {package})")
    return path
