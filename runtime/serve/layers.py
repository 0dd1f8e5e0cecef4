"""What the flags put around the application."""

from __future__ import annotations

import argparse

from starlette.types import ASGIApp

__all__ = ["with_layers"]


def with_layers(application: ASGIApp, args: argparse.Namespace) -> ASGIApp:
    """Put around an application what the flags ask for.

    Args:
        application: What answers.
        args: The parsed flags.

    Returns:
        What the server calls.
    """
    if args.traces:
        from runtime.serve.traces import traced  # an extra

        return traced(application)
    return application
