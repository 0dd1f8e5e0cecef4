"""Programs of processes that fork, end and share a model, on any engine; run as a script.

    python tests/support/processes.py fork ENGINE DIRECTORY COUNT
    python tests/support/processes.py exit ENGINE DIRECTORY
    python tests/support/processes.py signal ENGINE DIRECTORY

DIRECTORY holds the checkpoint "squad" of tests.golden.pipeline.pipeline_cases, which torch runs;
the other engines run the embedded model.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from bert_rt import Runtime, pipeline
from bert_rt.errors import EngineUnavailableError

REFUSED = ("openvino", "torch")
"""Engines whose library does not outlive a fork."""

_QUESTION = "who sat on the mat?"
_CONTEXT = "The cat sat on the mat in Paris. "
_CHILD_S = 60  # what a child may take, on a busy machine


def open_engine(engine: str, directory: str) -> Callable[[int], Any]:
    """Return a function that answers a question over a context of some length."""
    if engine == "torch":
        pipe = pipeline("question-answering", f"{directory}/squad", num_threads=2)
        return lambda num: pipe(question=_QUESTION, context=_CONTEXT * num)
    runtime = Runtime.load(engine=engine, num_threads=2)
    return lambda num: runtime.answer(question=_QUESTION, context=_CONTEXT * num).text


def keep_busy(answer: Callable[[int], Any]) -> None:
    """Answer in three threads that nobody waits for, in batches of ever other shapes."""

    def loop(index: int) -> None:
        count = index
        while True:
            answer(1 + count % 40)
            count += 7

    for index in range(3):
        threading.Thread(target=loop, args=(index,), daemon=True).start()


def is_refused(call: Callable[[], Any]) -> bool:
    """Whether a call says that the library cannot be used here, and how to start instead."""
    try:
        call()
    except EngineUnavailableError as error:
        return "forked" in str(error) and "'spawn'" in str(error)
    return False


def child(engine: str, directory: str, answer: Callable[[int], Any], want: Any) -> bool:
    """Do what a forked child may do; returns whether it went as it should."""
    if engine in REFUSED:
        # What the parent opened, and what the child would open itself.
        opens_own = is_refused(lambda: open_engine(engine, directory))
        return is_refused(lambda: answer(3)) and opens_own
    return bool(answer(3) == want)


def fork(engine: str, directory: str, count: int) -> None:
    """Fork a busy process again and again; every child must be done in time."""
    answer = open_engine(engine, directory)
    want = answer(3)
    keep_busy(answer)
    for index in range(count):
        time.sleep(0.01)
        pid = os.fork()
        if pid == 0:
            signal.alarm(_CHILD_S)
            is_good = child(engine, directory, answer, want)
            if index % 2 == 0:
                os._exit(0 if is_good else 3)
            sys.exit(0 if is_good else 3)  # with all that the interpreter does at its end
        status = os.waitpid(pid, 0)[1]
        assert status == 0, f"child {index}: status {status}"


def handle_a_signal(engine: str, directory: str) -> None:
    """Free what this thread opened in another thread, and handle a signal here."""
    held = [open_engine(engine, directory)]
    held[0](3)

    def free() -> None:
        held.clear()
        gc.collect()

    thread = threading.Thread(target=free)
    thread.start()
    thread.join()
    signal.signal(signal.SIGTERM, lambda *_: print("handled"))
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Run the program that the command line names."""
    program, engine, directory, *rest = sys.argv[1:]
    if program == "fork":
        fork(engine, directory, int(rest[0]))
    elif program == "signal":
        handle_a_signal(engine, directory)
    else:
        answer = open_engine(engine, directory)
        keep_busy(answer)
        time.sleep(0.2)


if __name__ == "__main__":
    main()
