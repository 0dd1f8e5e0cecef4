"""python -m runtime.serve: serve artifacts by HTTP."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Sequence

from bert_rt.serving import app
from bert_rt.support.cli import run_command
from runtime.serve.flags import artifacts, parse_flags, server_options, settings
from runtime.serve.layers import with_layers
from runtime.serve.logs import set_up_logs
from runtime.serve.models import load_model
from runtime.serve.server import end_at_once, listen, serve

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Serve as the command line says, until SIGTERM.

    Args:
        argv: The arguments.

    Returns:
        0; every failure is an exception.
    """
    args = parse_flags(argv, os.environ)
    set_up_logs(args.log_level, has_access_log=not args.no_access_log)
    models = {
        name: functools.partial(load_model, args, path) for name, path in artifacts(args).items()
    }
    application = app(models, settings(args))
    outermost = with_layers(application, args)
    code = serve(application, listen(args.host, args.port), server_options(args), outermost)
    if code:
        end_at_once(code)
    return code


if __name__ == "__main__":
    sys.exit(run_command(main))
