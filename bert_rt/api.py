"""The whole path in one view: an artifact is loaded, and questions become answers.

load:      artifact -> engine -> scheduler -> session -> self-test
answer:    texts -> tokens -> windows -> batches -> logits -> Answer
classify:  texts -> tokens -> sequences -> batches -> logits -> Classification

What happens between the arrows is in bert_rt.tasks, one room a task.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bert_rt.artifact.artifact import (
    MODEL_NAME,
    TOKENIZER_NAME,
    Artifact,
    default_artifact_path,
    load_artifact,
)
from bert_rt.artifact.manifest import FileEntry, Manifest
from bert_rt.engines.base import EngineInfo, EngineOptions, missing, open_engine
from bert_rt.engines.forking import ForkSafeEngine
from bert_rt.engines.scheduler import Scheduler
from bert_rt.errors import ArtifactError, ConfigError, InputError
from bert_rt.model.config import AnsweringConfig
from bert_rt.tasks.question_answering.answering import CallOptions, Session, check_pair
from bert_rt.tasks.selftest import run_self_test
from bert_rt.tasks.text_classification.classes import Classifier, check_input
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import Answer, Classification, Question, TextInput

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Runtime"]

_LOG = logging.getLogger(__name__)

# Larger batches are no faster on a CPU, and a question that arrives waits for the one that runs.
_MAX_BATCH_TOKENS = 4096
# Minutes of work for a CPU: bursts wait, but a backlog that only grows is refused.
_MAX_QUEUE_TOKENS = 2**21
_MAX_TOP_K = 10_000
_METHODS = {"question-answering": "answer", "text-classification": "classify"}


class Runtime:
    """Answers questions over passages, or classifies texts, as its artifact was made to do.

    Thread-safe: make one and share it. A forked process may go on using it on native and
    onnxruntime; on openvino and torch it is told to start by spawn. Pickled (for a pool of
    processes) and copied it is a path and options, from which it is loaded there.

    Attributes:
        info: The engine: name, precision, device, threads, and a notice for the user or "".
        manifest: What the artifact says of itself.
        limits: How passages are cut into windows and answers are picked.
        session: The path from texts to answers, for tools that need more than answers.
        classifier: The path from texts to classes, likewise.
    """

    def __init__(
        self,
        session: Session,
        info: EngineInfo,
        manifest: Manifest,
        limits: AnsweringConfig,
        loaded_with: dict[str, Any] | None = None,
    ) -> None:
        """Hold the parts that Runtime.load makes, and its arguments."""
        self.session = session
        self.info = info
        self.manifest = manifest
        self.limits = limits
        self.classifier = Classifier(session, manifest.labels)
        self._loaded_with = loaded_with

    def __reduce__(self) -> tuple[Any, ...]:
        """Say how to load this Runtime in another process, or once more in this one.

        Returns:
            What pickle and copy want: the artifact's path and the arguments of load, but no weight.

        Raises:
            ConfigError: It was not made by load, so that there is no path.
        """
        if self._loaded_with is None:
            raise ConfigError(
                "Runtime: cannot be pickled or copied, since it was not loaded from a path; "
                "use Runtime.load(path)"
            )
        return _load_again, (self._loaded_with, self.manifest.files)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        engine: str = "auto",
        device: str = "cpu",
        num_threads: int | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        config: AnsweringConfig | None = None,
        max_queue_tokens: int = _MAX_QUEUE_TOKENS,
    ) -> Runtime:
        """Load an artifact, verify it and run its self-test on the engine.

        Args:
            path: The artifact directory; None for the embedded default model.
            engine: "auto", "native", "onnxruntime", "openvino" or "torch".
            device: "cpu", "cuda" or an OpenVINO device name.
            num_threads: Threads of the engine; None for the cores that this process may use.
            checkpoint: The checkpoint directory, for the torch engine.
            config: Other limits than the manifest's.
            max_queue_tokens: Most tokens that may wait before a request is refused.

        Returns:
            A Runtime that is ready to answer.

        Raises:
            ArtifactError: The artifact cannot be used.
            ConfigError: A value is unknown or out of range.
            EngineError: The engine cannot run here or fails the self-test.
        """
        again = {"engine": engine, "device": device, "num_threads": num_threads, "config": config}
        again |= {"path": _absolute(path), "max_queue_tokens": max_queue_tokens}
        checkpoint = again["checkpoint"] = _absolute(checkpoint)
        artifact = load_artifact(default_artifact_path() if path is None else path)
        manifest = artifact.manifest
        limits = config or manifest.limits
        longest = manifest.architecture.max_sequence_length
        if limits.max_seq_length > longest:
            raise ConfigError(
                f"config.max_seq_length: got {limits.max_seq_length}, want at most the model's "
                f"longest sequence ({longest})"
            )
        options = EngineOptions(device, num_threads, checkpoint)
        opened = ForkSafeEngine(lambda: open_engine(engine, artifact, options))
        artifact.release(MODEL_NAME)
        info = _explain(engine, opened.info, artifact, options)
        tokenizer = Tokenizer.from_bytes(artifact.read(TOKENIZER_NAME))
        max_batch_tokens = max(_MAX_BATCH_TOKENS, longest)
        scheduler = Scheduler(
            opened, max_batch_tokens=max_batch_tokens, max_queue_tokens=max_queue_tokens
        )
        session = Session(tokenizer, scheduler)
        try:
            run_self_test(session, manifest, info)
        except BaseException:
            session.close()
            raise
        return cls(session, info, manifest, limits, again)

    def answer(
        self,
        *,
        question: str,
        context: str,
        top_k: int = 1,
        max_overlap: float | None = None,
        timeout_s: float | None = None,
    ) -> Answer:
        """Answer one question over one passage.

        Args:
            question: The question.
            context: The passage, of any length up to ten million characters.
            top_k: Answers wanted; those after the best are its alternatives.
            max_overlap: Most of the shorter one's characters, from 0 (none) to 1, that two of the
                answers may share; None for no such rule. There may then be fewer than top_k.
            timeout_s: Seconds to wait at most; None for no limit.

        Returns:
            The best answer, with context[answer.start:answer.end] == answer.text.

        Raises:
            InputError: A text is empty, too long or unreadable, or a value is out of range.
            OverloadedError: Too much is waiting already.
            DeadlineExceededError: timeout_s has passed.
            EngineError: The engine failed, or the Runtime is closed.
        """
        options = self.options(top_k, timeout_s, max_overlap=max_overlap)
        pair = check_pair((question, context))
        return next(self.session.stream([pair], options, place=""))

    def answer_batch(
        self,
        pairs: Iterable[Question | tuple[str, str]],
        *,
        top_k: int = 1,
        max_overlap: float | None = None,
        timeout_s: float | None = None,
    ) -> list[Answer]:
        """Answer many questions, computed together; all are checked before any is computed.

        Args:
            pairs: (question, context) pairs.
            top_k: As in answer.
            max_overlap: As in answer.
            timeout_s: Seconds to wait for all of them.

        Returns:
            One answer a pair, in order: what answer returns.

        Raises:
            BertRtError: As in answer; the message of an InputError names the pair.
        """
        options = self.options(top_k, timeout_s, max_overlap=max_overlap)
        questions = [check_pair(pair, f"pairs[{i}]") for i, pair in enumerate(pairs)]
        return list(self.session.stream(questions, options))

    def stream(
        self,
        pairs: Iterable[Question | tuple[str, str]],
        *,
        top_k: int = 1,
        max_overlap: float | None = None,
    ) -> Iterator[Answer]:
        """Answer any number of pairs in order and bounded memory; a bad one raises at its place."""
        return self.session.stream(pairs, self.options(top_k, max_overlap=max_overlap))

    async def answer_async(
        self,
        *,
        question: str,
        context: str,
        top_k: int = 1,
        max_overlap: float | None = None,
        timeout_s: float | None = None,
    ) -> Answer:
        """Do what answer does without blocking the event loop; cancelling drops the request."""
        import asyncio  # whoever calls this has it; others would wait for it

        cancelled = threading.Event()
        options = self.options(top_k, timeout_s, max_overlap=max_overlap)
        options = dataclasses.replace(options, cancelled=cancelled)
        pair = check_pair((question, context))
        try:
            return await asyncio.to_thread(
                lambda: next(self.session.stream([pair], options, place=""))
            )
        finally:
            cancelled.set()

    def classify(
        self,
        text: str,
        text_pair: str | None = None,
        *,
        top_k: int = 1,
        timeout_s: float | None = None,
    ) -> Classification:
        """Classify one text, or one pair of texts.

        Args:
            text: The text; what is beyond the artifact's max_seq_length tokens is cut off.
            text_pair: The second text of a pair.
            top_k: Classes wanted; those after the best are its alternatives.
            timeout_s: Seconds to wait at most; None for no limit.

        Returns:
            The best class.

        Raises:
            BertRtError: As in answer.
        """
        options = self.options(top_k, timeout_s, task="text-classification")
        item = check_input(TextInput(text, text_pair))
        return next(self.classifier.stream([item], options, place=""))

    def classify_batch(
        self,
        texts: Iterable[str | TextInput | tuple[str, str]],
        *,
        top_k: int = 1,
        timeout_s: float | None = None,
    ) -> list[Classification]:
        """Classify many texts or pairs together, each as classify does; all are checked first."""
        options = self.options(top_k, timeout_s, task="text-classification")
        inputs = [check_input(text, f"texts[{i}]") for i, text in enumerate(texts)]
        return list(self.classifier.stream(inputs, options))

    def close(self) -> None:
        """Free the engine once the batch that runs is done. Calling it twice is harmless."""
        self.session.close()

    def __enter__(self) -> Self:
        """Return the Runtime itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()

    def options(
        self,
        top_k: int = 1,
        timeout_s: float | None = None,
        *,
        task: str = "question-answering",
        max_overlap: float | None = None,
    ) -> CallOptions:
        """Make the options of a call on session or classifier.

        Args:
            top_k: Answers or classes wanted.
            timeout_s: Seconds from now to the deadline; None for none.
            task: The task of the call.
            max_overlap: As in answer.

        Returns:
            The options, with this Runtime's limits and the artifact's score_temperature.

        Raises:
            InputError: The artifact is for another task, or a value is out of range.
        """
        if self.manifest.task != task:
            got = self.manifest.task
            raise InputError(
                f"task: got a {got} artifact, which is asked with `{_METHODS[got]}`; want {task}"
            )
        if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= _MAX_TOP_K:
            raise InputError(f"top_k: got {top_k!r}, want an integer from 1 to {_MAX_TOP_K}")
        if max_overlap is not None:
            is_number = isinstance(max_overlap, int | float) and not isinstance(max_overlap, bool)
            if not is_number or not 0 <= max_overlap <= 1:
                raise InputError(
                    f"max_overlap: got {max_overlap!r}, want a number from 0 to 1, or None"
                )
        return CallOptions(
            self.limits,
            top_k,
            math.inf if timeout_s is None else time.monotonic() + timeout_s,
            max_overlap=max_overlap,
            score_temperature=self.manifest.score_temperature,
        )


def _absolute(path: str | os.PathLike[str] | None) -> str | None:
    """Make a path hold in processes with another working directory."""
    return None if path is None else os.path.abspath(path)


def _load_again(loaded_with: dict[str, Any], files: Mapping[str, FileEntry]) -> Runtime:
    """Load what a pickle names; it must be the artifact that was pickled, byte by byte."""
    runtime = Runtime.load(**loaded_with)
    if runtime.manifest.files != files:
        runtime.close()
        raise ArtifactError(
            f"{loaded_with['path'] or 'the embedded model'}: holds another artifact than the "
            "Runtime that was pickled; load the new one and pickle that"
        )
    return runtime


def _explain(
    asked: str, info: EngineInfo, artifact: Artifact, options: EngineOptions
) -> EngineInfo:
    """Say why "auto" did not take the native engine: many times slower is worth a line."""
    if asked != "auto" or info.name == "native":
        return info
    reason = missing("native", artifact, options)
    info = dataclasses.replace(info, notice=f"{info.name} answers, not native: {reason}")
    _LOG.warning(info.notice)
    return info
