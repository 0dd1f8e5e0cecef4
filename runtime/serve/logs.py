"""Logs as lines of JSON, without any text of a caller."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback

__all__ = ["JsonFormatter", "set_up_logs"]


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON.

    Of an exception it writes the class and the places, not the message, which may hold a passage.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        fields = getattr(record, "bert_rt", None)
        if isinstance(fields, dict):
            entry |= fields
        else:
            entry["message"] = record.getMessage()
        if record.exc_info and record.exc_info[0] is not None:
            entry["exception"] = record.exc_info[0].__name__
            entry["frames"] = "".join(traceback.format_tb(record.exc_info[2]))
        return json.dumps(entry)


def set_up_logs(level: str, *, has_access_log: bool) -> None:
    """Send all logs of this process to stderr as JSON.

    Args:
        level: Least level, such as "info".
        has_access_log: Whether every request makes a line.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # A line of its own for every request is bert_rt.serving's, with the request's id.
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger("bert_rt.serving.access").disabled = not has_access_log
