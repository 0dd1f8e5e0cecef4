"""A small HTTP service with Starlette.

pip install starlette uvicorn
uvicorn --app-dir examples web_app:app
curl localhost:8000/answer --json '{"question": "Who wrote it?", "context": "Homer wrote it."}'

Requests that arrive at the same time are computed together, and none of them holds a thread.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bert_rt import DeadlineExceededError, InputError, OverloadedError, Runtime

# Errors that a client can cause, and their statuses.
_STATUS = {InputError: 400, OverloadedError: 429, DeadlineExceededError: 504}


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Load the model before the first request, and free it after the last."""
    with Runtime.load() as runtime:
        app.state.runtime = runtime
        yield


async def answer(request: Request) -> JSONResponse:
    """Answer {"question", "context"}."""
    try:
        body = await request.json()
        texts = {name: body[name] for name in ("question", "context")}
    except (ValueError, KeyError, TypeError):
        return JSONResponse({"error": "want a JSON object of question and context"}, 400)
    runtime: Runtime = request.app.state.runtime
    found = await runtime.answer_async(**texts, timeout_s=10)
    return JSONResponse({"text": found.text, "score": found.score, "start": found.start})


async def health(request: Request) -> JSONResponse:
    """Say which engine answers, and how much waits."""
    runtime: Runtime = request.app.state.runtime
    stats = dataclasses.asdict(runtime.session.stats)
    return JSONResponse({"engine": runtime.info.name, "waiting": stats})


async def refuse(request: Request, error: Exception) -> JSONResponse:
    """Turn an error of bert-rt into a status and one line."""
    status = next(code for kind, code in _STATUS.items() if isinstance(error, kind))
    return JSONResponse({"error": str(error)}, status)


app = Starlette(
    routes=[Route("/answer", answer, methods=["POST"]), Route("/health", health)],
    exception_handlers=dict.fromkeys(_STATUS, refuse),
    lifespan=lifespan,
)
