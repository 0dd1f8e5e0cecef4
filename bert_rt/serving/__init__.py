"""The HTTP service as an ASGI application; needs `pip install 'bert-rt[serve]'`.

from bert_rt.serving import app

application = app(models={"squad": "artifact-dir"})
"""

from __future__ import annotations

from bert_rt.serving.application import Application, app
from bert_rt.serving.settings import Settings

__all__ = ["Application", "Settings", "app"]
