"""docs/serving.md and README are true: their curls answer as shown, and the files are usable."""

from __future__ import annotations

import json
import os
import re
import shutil
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runtime.serve.flags import ENV_PREFIX, make_serve_parser
from tests.support.serving.server import Served, served

_DOCS = Path(__file__).parents[3] / "docs"
_PAGES = (_DOCS / "serving.md", _DOCS.parent / "README.md")
_BLOCKS = [
    block
    for page in _PAGES
    for block in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.M | re.S)
]
_CURLS = [
    index
    for index, (kind, text) in enumerate(_BLOCKS)
    if kind == "bash" and text.startswith("curl")
]
_FILES = sorted(it for it in (_DOCS / "serving").iterdir() if it.suffix != ".png")


def need(tool: str) -> str:
    """Return a tool's path; without it the test is skipped, unless CI said that it is there."""
    path = shutil.which(tool)
    if path is None:
        if os.environ.get("BERT_RT_REQUIRE_SERVE_TOOLS") == "1":
            pytest.fail(f"BERT_RT_REQUIRE_SERVE_TOOLS=1, but there is no {tool}")
        pytest.skip(f"no {tool}: apt-get install chromium nginx-light")
    return path


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(["runtime.serve", "--port", "0"]) as server:
        yield server


def _equal(got: Any, want: Any) -> bool:
    if isinstance(want, dict):
        return got.keys() == want.keys() and all(_equal(got[name], want[name]) for name in want)
    if isinstance(want, list):
        return len(got) == len(want) and all(map(_equal, got, want))
    return bool(got == pytest.approx(want, rel=1e-4) if isinstance(want, float) else got == want)


@pytest.mark.parametrize("index", _CURLS)
def test_every_curl_answers_as_shown(server: Served, index: int) -> None:
    command = _BLOCKS[index][1].replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
    result = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60, check=True)
    got = json.loads(result.stdout)
    following = _BLOCKS[index + 1] if index + 1 < len(_BLOCKS) else ("", "")
    if following[0] == "json":
        assert _equal(got, json.loads(following[1])), result.stdout
    else:
        assert "error" not in got


def test_there_are_examples_of_every_api() -> None:
    text = "".join(_BLOCKS[index][1] for index in _CURLS)
    assert all(path in text for path in ("/v1/answer", ":8000/ ", "/v2/models/default/infer"))


def test_every_variable_is_a_flag() -> None:
    flags = {ENV_PREFIX + action.dest.upper() for action in make_serve_parser()._actions}
    texts = [path.read_text() for path in _FILES] + [(_DOCS / "serving.md").read_text()]
    # A comment of kubernetes.yaml and the prefix alone are no settings.
    named = set(re.findall(rf"{ENV_PREFIX}[A-Z_]+", "\n".join(texts)))
    assert len(named) > 5
    assert named - flags == set()


def test_the_manifests_probe_what_there_is(server: Served) -> None:
    documents = list(yaml.safe_load_all((_DOCS / "serving" / "kubernetes.yaml").read_text()))
    assert [it["kind"] for it in documents] == ["Deployment", "Service", "HorizontalPodAutoscaler"]
    pod = documents[0]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert server.ask(container[probe]["httpGet"]["path"])[0] == 200
    values = {entry["name"]: entry["value"] for entry in container["env"]}
    ends = [float(values[f"{ENV_PREFIX}SHUTDOWN_{it}_S"]) for it in ("DELAY", "TIMEOUT")]
    assert sum(ends) < pod["terminationGracePeriodSeconds"]
    metric = documents[2]["spec"]["metrics"][0]["pods"]["metric"]["name"]
    assert f"{metric}{{" in server.ask("/metrics")[1].decode()


def test_nginx_brings_tls(server: Served, tmp_path: Path) -> None:
    nginx = need("nginx")
    text = (_DOCS / "serving" / "nginx.conf").read_text()
    with urllib.request.socket.socket() as free:  # type: ignore[attr-defined]
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}").replace("8443", str(port))
    (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/pid;\ndaemon off;\n{text}")
    names = (
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "key.pem",
        "-out",
        "cert.pem",
        "-days",
        "2",
    )
    subprocess.run(
        ["openssl", "req", "-x509", *names, "-subj", "/CN=localhost"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    command = [nginx, "-p", str(tmp_path), "-c", "nginx.conf", "-e", str(tmp_path / "log")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    trusting.check_hostname = False
    try:
        answer = _ask_soon(f"https://127.0.0.1:{port}/v1/models", trusting, process)
        assert json.loads(answer)["models"][0]["name"] == "default"
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"https://127.0.0.1:{port}/metrics", context=trusting)
    finally:
        process.terminate()
        process.communicate(timeout=10)


def _ask_soon(url: str, context: ssl.SSLContext, process: subprocess.Popen[str]) -> bytes:
    for _ in range(200):
        assert process.poll() is None
        try:
            with urllib.request.urlopen(url, context=context, timeout=10) as response:
                data: bytes = response.read()
                return data
        except urllib.error.URLError:
            pass
    raise AssertionError("nginx did not answer")
