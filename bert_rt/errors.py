"""Every exception that bert_rt raises, and nothing else.

The caller's mistakes raise one of these; our own mistakes assert. A message names the field, the
value that was given and the value that was wanted, because it is often all that a user sees: the
commands print it as one line and exit with code 2.
"""

from __future__ import annotations

__all__ = [
    "ArtifactError",
    "ArtifactFormatError",
    "ArtifactNotFoundError",
    "ArtifactVersionError",
    "BertRtError",
    "CalibrationError",
    "CheckpointError",
    "CompileError",
    "ConfigError",
    "DeadlineExceededError",
    "EmptyInputError",
    "EngineError",
    "EngineInternalError",
    "EngineUnavailableError",
    "InputError",
    "InputTooLongError",
    "OverloadedError",
    "ParityError",
    "TrainingError",
    "UnsupportedOpError",
]


class BertRtError(Exception):
    """Base of every error that bert_rt raises on purpose."""


class InputError(BertRtError, ValueError):
    """A question, context, file or argument that cannot be processed as given."""


class EmptyInputError(InputError):
    """A text that must hold something is empty or only white space."""


class InputTooLongError(InputError):
    """A text or window is longer than a stated limit."""


class ConfigError(BertRtError, ValueError):
    """A configuration value is out of its range or contradicts another one."""


class CheckpointError(BertRtError):
    """A directory is not a checkpoint that this project can read."""


class ArtifactError(BertRtError):
    """An artifact directory cannot be used."""


class ArtifactNotFoundError(ArtifactError):
    """There is no artifact at the given path."""


class ArtifactFormatError(ArtifactError):
    """An artifact is damaged, tampered with or incomplete."""


class ArtifactVersionError(ArtifactError):
    """An artifact was written in a format version that this release does not read."""


class TrainingError(BertRtError):
    """A training run cannot go on: its loss is no number, or its checkpoint is not its own."""


class CompileError(BertRtError):
    """The compile stage refuses to write an artifact."""


class UnsupportedOpError(CompileError):
    """The model has an operator, architecture or structure that cannot be compiled."""


class CalibrationError(CompileError):
    """Activation ranges could not be measured from the calibration data."""


class ParityError(CompileError):
    """A compiled model's results are further from the float model's than allowed."""


class EngineError(BertRtError):
    """An engine cannot do what was asked of it."""


class EngineUnavailableError(EngineError):
    """The engine, device or instruction set asked for cannot run on this machine."""


class EngineInternalError(EngineError):
    """An engine failed while it ran a batch that was valid."""


class OverloadedError(BertRtError):
    """Too much waits already; the request was refused at admission and can be sent again.

    Attributes:
        retry_after_s: Seconds after which it is likely to be admitted, where that can be predicted.
    """

    def __init__(self, message: str = "", *, retry_after_s: float | None = None) -> None:
        """Hold the message, and when to try again.

        Args:
            message: What was refused, and why.
            retry_after_s: Seconds; None where nothing was measured yet.
        """
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineExceededError(BertRtError):
    """A request's deadline passed before its answer was ready."""
