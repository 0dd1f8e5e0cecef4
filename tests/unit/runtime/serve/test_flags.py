"""Tests of the server's flags: each may come from the environment, and mistakes are named."""

from __future__ import annotations

import gc
import json
import logging
from pathlib import Path

import pytest

from bert_rt.errors import ConfigError
from bert_rt.serving import Settings
from runtime.serve.flags import (
    ENV_PREFIX,
    artifacts,
    make_serve_parser,
    parse_flags,
    server_options,
    settings,
)
from runtime.serve.logs import JsonFormatter
from runtime.serve.models import load_model
from runtime.serve.server import ServerOptions, listen

_DOCS = Path(__file__).parents[4] / "docs" / "serving.md"


def test_defaults() -> None:
    args = parse_flags([], {})
    assert artifacts(args) == {"default": None}
    assert settings(args) == Settings()
    assert server_options(args) == ServerOptions()
    assert (args.host, args.port) == ("127.0.0.1", 8000)


def test_flags_in_both_spellings() -> None:
    args = parse_flags(
        ["--max-items", "3", "--timeout_ms=7", "--artifact", "squad=/a", "--artifact", "/b/mood/"],
        {},
    )
    assert artifacts(args) == {"squad": "/a", "mood": "/b/mood/"}
    assert (settings(args).max_items, settings(args).timeout_ms) == (3, 7)


def test_the_environment_stands_in_for_flags() -> None:
    environ = {
        ENV_PREFIX + "ARTIFACT": "a=/x,b=/y",
        ENV_PREFIX + "PORT": "81",
        ENV_PREFIX + "NO_PAGE": "true",
        ENV_PREFIX + "TOKEN": "-t",
        ENV_PREFIX + "HEADER_TIMEOUT_S": "1.5",
        ENV_PREFIX + "CORS_ORIGINS": "https://a.example,https://b.example",
        ENV_PREFIX + "SERVICE_HOST": "10.0.0.1",  # Kubernetes may set it.
    }
    args = parse_flags(["--port", "82"], environ)
    assert args.port == 82
    assert artifacts(args) == {"a": "/x", "b": "/y"}
    assert settings(args).page is False and settings(args).token == "-t"
    assert settings(args).cors_origins == ("https://a.example", "https://b.example")
    assert server_options(args).header_timeout_s == 1.5
    assert artifacts(parse_flags(["--artifact", "/z"], environ)) == {"z": "/z"}


@pytest.mark.parametrize(
    ("argv", "environ", "message"),
    [
        (["--port", "70000"], {}, "--port: got '70000'"),
        (["--engine_nice", "20"], {}, "got '20', want an integer from 0 to 19"),
        (["--engine_nice", "-1"], {}, "got '-1', want an integer from 0 to 19"),
        (["--max_items", "0"], {}, "--max_items: got '0'"),
        (["--header_timeout_s", "nan"], {}, "got 'nan', want a number of seconds"),
        ([], {ENV_PREFIX + "PORT": "tcp://10.0.0.1"}, "BERT_RT_SERVE_PORT: got 'tcp://10.0.0.1'"),
        ([], {ENV_PREFIX + "NO_PAGE": "maybe"}, "BERT_RT_SERVE_NO_PAGE: got 'maybe'"),
    ],
)
def test_mistakes_are_one_line(
    argv: list[str], environ: dict[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_flags(argv, environ)
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_the_token_comes_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("s3cret\n")
    assert settings(parse_flags(["--token_file", str(path)], {})).token == "s3cret"
    path.write_text("\n")
    with pytest.raises(ConfigError, match="--token_file: got an empty file"):
        settings(parse_flags(["--token_file", str(path)], {}))


def test_a_name_comes_once() -> None:
    with pytest.raises(ConfigError, match="got the name 'a' twice"):
        artifacts(parse_flags(["--artifact", "a=/x", "--artifact", "/y/a"], {}))


def test_an_address_in_use_is_named() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConfigError, match=f"host, port: cannot listen on 127.0.0.1:{port}"):
            listen("127.0.0.1", port)


def test_every_flag_is_in_the_docs() -> None:
    text = _DOCS.read_text()
    names = {action.dest for action in make_serve_parser()._actions} - {"help"}
    assert {name for name in names if f"`--{name}" not in text} == set()
    assert f"`{ENV_PREFIX}" in text


def test_what_is_loaded_is_not_looked_through_for_garbage() -> None:
    before = gc.get_freeze_count()
    try:
        with load_model(parse_flags(["--engine", "onnxruntime", "--engine_nice", "0"], {}), None):
            assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()


def test_logs_are_json_without_messages_of_exceptions() -> None:
    try:
        raise ValueError("a passage")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("a", logging.ERROR, __file__, 1, "it %s", ("failed",), info)
    entry = json.loads(JsonFormatter().format(record))
    assert (entry["message"], entry["exception"]) == ("it failed", "ValueError")
    assert "a passage" not in json.dumps(entry["message"]) + entry["exception"]
    assert "test_flags" in entry["frames"]
    record = logging.LogRecord("a", logging.INFO, __file__, 1, "text", (), None)
    record.bert_rt = {"request_id": "7", "status": 200}
    entry = json.loads(JsonFormatter().format(record))
    assert (entry["request_id"], entry["status"]) == ("7", 200)
