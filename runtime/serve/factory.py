"""The application for other servers: `gunicorn 'runtime.serve.factory:create()' --preload ...`.

The flags come from the environment (BERT_RT_SERVE_ARTIFACT and the others). Models are loaded here
and now, so that with --preload all workers share the memory of their weights.
"""

from __future__ import annotations

import os

from starlette.types import ASGIApp

from bert_rt.serving import app
from runtime.serve.flags import artifacts, parse_flags, settings
from runtime.serve.layers import with_layers
from runtime.serve.models import load_model

__all__ = ["create"]


def create() -> ASGIApp:
    """Make the application that the environment describes.

    Returns:
        The application, with all models loaded.

    Raises:
        BertRtError: An artifact cannot be loaded, or a variable is out of range.
    """
    args = parse_flags([], os.environ)
    models = {name: load_model(args, path) for name, path in artifacts(args).items()}
    return with_layers(app(models, settings(args)), args)
