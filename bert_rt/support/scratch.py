"""A directory for the temporary files of a command and of the libraries that it uses.

Some libraries leave files in the system's temporary directory: torch the directory of a cache, ONNX
Runtime a file of its session. A command that ends, however it ends, leaves none.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

__all__ = ["private_temporary_directory"]

# What is looked up, or set for later by torch, where temporary files go.
_VARIABLES = ("TMPDIR", "TORCHINDUCTOR_CACHE_DIR")


@contextlib.contextmanager
def private_temporary_directory() -> Iterator[None]:
    """Let temporary files go into a directory that is removed at the end of a with statement.

    Yields:
        Nothing. Meanwhile TMPDIR and tempfile.tempdir name the directory, for the whole process.
    """
    before = {name: os.environ.get(name) for name in _VARIABLES}
    default = tempfile.tempdir
    # Removed by force: threads of libraries may still write when a signal ends the command.
    with tempfile.TemporaryDirectory(prefix="bert_rt-", ignore_cleanup_errors=True) as directory:
        os.environ["TMPDIR"] = tempfile.tempdir = directory
        try:
            yield
        finally:
            tempfile.tempdir = default
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
