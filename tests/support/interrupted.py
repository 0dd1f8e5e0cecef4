"""Run a command that a signal meets at a chosen place; run as a script.

    python tests/support/interrupted.py SIGNAL MODULE:FUNCTION COMMAND ARGUMENT ...

When the command calls the function, the process sends itself the signal before the function runs.
"""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import sys
from typing import Any


def main() -> None:
    """Run what the command line says."""
    # Shells ignore both for what they start in the background, nohup the second one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    _, number, place, command, *argv = sys.argv
    module_name, name = place.split(":")
    module = importlib.import_module(module_name)
    function = getattr(module, name)

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        os.kill(os.getpid(), signal.Signals[number])
        return function(*args, **kwargs)

    setattr(module, name, interrupted)
    sys.argv = [command, *argv]
    runpy.run_module(command, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
