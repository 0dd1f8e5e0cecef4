"""From exceptions to HTTP: one table of statuses, and the body that every error has."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec
from starlette.exceptions import HTTPException

from bert_rt import errors

__all__ = ["STATUSES", "ErrorBody", "HttpFailure", "failure_of"]

# Every class of bert_rt.errors; a test fails where one is missing.
STATUSES: Mapping[type[errors.BertRtError], int] = MappingProxyType(
    {
        errors.BertRtError: 500,
        errors.InputError: 400,
        errors.EmptyInputError: 400,
        errors.InputTooLongError: 413,
        errors.ConfigError: 500,
        errors.CheckpointError: 500,
        errors.ArtifactError: 500,
        errors.ArtifactNotFoundError: 500,
        errors.ArtifactFormatError: 500,
        errors.ArtifactVersionError: 500,
        errors.TrainingError: 500,
        errors.CompileError: 500,
        errors.UnsupportedOpError: 500,
        errors.CalibrationError: 500,
        errors.ParityError: 500,
        errors.EngineError: 500,
        errors.EngineUnavailableError: 503,
        errors.EngineInternalError: 500,
        errors.OverloadedError: 429,
        errors.DeadlineExceededError: 504,
    }
)

# What Starlette and HTTP itself call by a number.
_CODES = {404: "NotFoundError", 405: "MethodNotAllowedError"}
_MESSAGES = {404: "path: there is no such route", 405: "method: this route has no such method"}


class ErrorBody(msgspec.Struct):
    """The body of every response that is an error.

    Attributes:
        error: What was got and what is wanted.
        code: Class of the error.
        request_id: The request's X-Request-ID.
    """

    error: str
    code: str
    request_id: str


class HttpFailure(Exception):
    """A request that is answered with an error.

    Attributes:
        status: The HTTP status.
        code: The error's class, as clients see it.
        message: What was got and what is wanted.
        headers: Headers of the response.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Make the failure.

        Args:
            status: The HTTP status.
            code: The error's class.
            message: What was got and what is wanted.
            headers: Headers of the response.
        """
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})


def failure_of(error: Exception) -> HttpFailure:
    """Say how an exception is answered.

    Args:
        error: Any exception. Of one that is our own mistake the client learns nothing.

    Returns:
        The failure.
    """
    if isinstance(error, HttpFailure):
        return error
    if isinstance(error, HTTPException):
        code = _CODES.get(error.status_code, "HTTPError")
        message = _MESSAGES.get(error.status_code, error.detail)
        return HttpFailure(error.status_code, code, message, error.headers)
    if isinstance(error, errors.BertRtError):
        cls = next(cls for cls in type(error).__mro__ if cls in STATUSES)
        return HttpFailure(STATUSES[cls], type(error).__name__, str(error))
    return HttpFailure(500, "InternalError", "the server failed; its log names the request_id")
