"""The flags of the server, each of which is an environment variable, too."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bert_rt.errors import ConfigError
from bert_rt.serving import Settings
from bert_rt.support.cli import int_at_least, make_parser
from runtime.loading import add_runtime_flags
from runtime.serve.server import ServerOptions

__all__ = [
    "DEFAULT_BATCH_MS",
    "DEFAULT_NICE",
    "ENV_PREFIX",
    "artifacts",
    "make_serve_parser",
    "parse_flags",
    "server_options",
    "settings",
]

ENV_PREFIX = "BERT_RT_SERVE_"
DEFAULT_BATCH_MS = 200.0
DEFAULT_NICE = 5

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")

# Flag to its help; names and defaults are those of Settings and ServerOptions.
_HELP = {
    "max_body_bytes": "longest body of a request",
    "max_unpacked_bytes": "longest body once gzip is unpacked",
    "max_pending_bytes": "most bytes of bodies held for all requests together",
    "max_text_chars": "longest text",
    "max_items": "most inputs of one request",
    "timeout_ms": "deadline of requests that name none",
    "max_timeout_ms": "longest deadline that a request may name",
    "hang_s": "seconds after which a batch that still runs is taken for a hang",
    "header_timeout_s": "seconds in which a request's head must arrive",
    "body_timeout_s": "seconds in which its body must arrive",
    "keep_alive_s": "seconds that a connection may be idle between requests",
    "shutdown_delay_s": "seconds from SIGTERM until new connections are refused",
    "shutdown_timeout_s": "seconds from there until unanswered requests are given up",
}


def make_serve_parser() -> argparse.ArgumentParser:
    """Make the parser of the command.

    Returns:
        The parser; parse_flags adds the environment.
    """
    parser = make_parser(
        "runtime.serve",
        f"Serve artifacts by HTTP, with a page to try them. {ENV_PREFIX}MAX_ITEMS is --max_items.",
    )
    add_runtime_flags(parser, has_artifact=False, keeps_contexts=True)
    parser.add_argument(
        "--artifact",
        action="append",
        metavar="[NAME=]ART",
        help="artifact directory, once for every model; left out: the embedded default; in the "
        "environment they are separated by commas",
    )
    parser.add_argument("--host", default="127.0.0.1", metavar="H", help="address to listen on")
    parser.add_argument(
        "--port", type=_port, default=8000, metavar="N", help="0 for any free one; default 8000"
    )
    parser.add_argument("--token", default="", metavar="T", help="bearer token that is wanted")
    parser.add_argument("--token_file", metavar="F", help="a file that holds the token")
    parser.add_argument(
        "--cors_origins",
        default="",
        metavar="O",
        help="origins, separated by commas, whose pages may ask; * for all",
    )
    parser.add_argument(
        "--client_header",
        default="",
        metavar="H",
        help="header that names who asks (X-Forwarded-For): one turn for all requests of a client",
    )
    parser.add_argument("--no_page", action="store_true", help="serve no page at /")
    _add_logging(parser)
    _add_limits(parser)
    return parser


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("limits and deadlines")
    group.add_argument(
        "--max_batch_ms",
        type=_milliseconds,
        default=DEFAULT_BATCH_MS,
        metavar="MS",
        help="milliseconds that a batch should take at most, by what was measured: what a request "
        f"that has just come waits for; default {DEFAULT_BATCH_MS:g}",
    )
    group.add_argument(
        "--engine_nice",
        type=_nice,
        default=DEFAULT_NICE,
        metavar="N",
        help="how far the threads that compute give way to those that receive and send: added to "
        f"their nice value, 0 to 19; Linux only; default {DEFAULT_NICE}",
    )
    for cls in (Settings, ServerOptions):
        for field in dataclasses.fields(cls):
            if field.name in _HELP:
                _add_number(group, field)


def _add_logging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no_access_log", action="store_true", help="no line for every request")
    parser.add_argument(
        "--log_level",
        default="info",
        choices=("debug", "info", "warning", "error"),
        help="least level of what is logged",
    )
    parser.add_argument(
        "--traces",
        action="store_true",
        help="send a trace of every request by OpenTelemetry (OTEL_EXPORTER_OTLP_ENDPOINT, ...); "
        "needs the extra traces",
    )


def _add_number(group: Any, field: dataclasses.Field[Any]) -> None:
    kind = int_at_least(1) if isinstance(field.default, int) else _seconds
    text = f"{_HELP[field.name]}; default {field.default}"
    group.add_argument(f"--{field.name}", type=kind, default=field.default, metavar="N", help=text)


def parse_flags(argv: Sequence[str], environ: Mapping[str, str]) -> argparse.Namespace:
    """Parse the command line, with the environment for what is not on it.

    Args:
        argv: The arguments.
        environ: The environment.

    Returns:
        The flags; artifact is a list.
    """
    parser = make_serve_parser()
    given = {arg.partition("=")[0].replace("-", "_").lstrip("_") for arg in argv if arg[:2] == "--"}
    extra: list[str] = []
    for action in parser._actions:
        name = action.dest
        value = environ.get(ENV_PREFIX + name.upper())
        if value is None or name in given or name == "help":
            continue
        extra += _from_environment(parser, action, value)
    args = parser.parse_args([*extra, *argv])
    args.artifact = args.artifact or []
    return args


def _from_environment(
    parser: argparse.ArgumentParser, action: argparse.Action, value: str
) -> list[str]:
    variable, flag = ENV_PREFIX + action.dest.upper(), f"--{action.dest}"
    if action.nargs == 0:
        if value.lower() not in (*_TRUE, *_FALSE):
            parser.error(f"{variable}: got {value!r}, want 1 or 0")
        return [flag] if value.lower() in _TRUE else []
    if action.dest == "artifact":
        return [f"{flag}={part}" for part in value.split(",") if part]
    if callable(action.type):
        try:
            action.type(value)
        except (argparse.ArgumentTypeError, ValueError) as error:
            parser.error(f"{variable}: {error}")
    return [f"{flag}={value}"]


def artifacts(args: argparse.Namespace) -> dict[str, str | None]:
    """Return the artifacts' paths by the models' names; None for the embedded model.

    Args:
        args: The parsed flags.

    Returns:
        The paths in order; a model without a name has that of its directory.

    Raises:
        ConfigError: A name comes twice.
    """
    if not args.artifact:
        return {"default": None}
    found: dict[str, str | None] = {}
    for text in args.artifact:
        name, equals, path = text.partition("=")
        if not equals or "/" in name:
            name, path = Path(text).resolve().name, text
        if name in found:
            raise ConfigError(f"--artifact: got the name {name!r} twice, want NAME=PATH for each")
        found[name] = path
    return found


def settings(args: argparse.Namespace) -> Settings:
    """Return what the service allows.

    Args:
        args: The parsed flags.

    Returns:
        The settings.

    Raises:
        ConfigError: A value is out of range, or the token's file is empty.
        OSError: The token's file cannot be read.
    """
    token = args.token
    if args.token_file is not None:
        token = Path(args.token_file).read_text("utf-8").strip()
        if not token or args.token:
            raise ConfigError("--token_file: got an empty file or --token too, want one token")
    origins = tuple(origin for origin in args.cors_origins.split(",") if origin)
    return Settings(
        token=token,
        cors_origins=origins,
        client_header=args.client_header,
        page=not args.no_page,
        **{field.name: getattr(args, field.name) for field in _numbers(Settings)},
    )


def server_options(args: argparse.Namespace) -> ServerOptions:
    """Return how connections are treated."""
    return ServerOptions(
        **{field.name: getattr(args, field.name) for field in _numbers(ServerOptions)}
    )


def _numbers(cls: Any) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(cls) if field.name in _HELP]


def _port(text: str) -> int:
    if not text.isdecimal() or int(text[:6]) > 65535:
        raise argparse.ArgumentTypeError(f"got {text!r}, want a port from 0 to 65535")
    return int(text)


def _nice(text: str) -> int:
    if not text.isdecimal() or len(text) > 2 or int(text) > 19:
        raise argparse.ArgumentTypeError(f"got {text!r}, want an integer from 0 to 19")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"got {text!r}, want a number of seconds")
    return value


def _milliseconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"got {text!r}, want a number of milliseconds above 0")
    return value
