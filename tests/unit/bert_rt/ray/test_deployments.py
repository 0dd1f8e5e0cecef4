"""What `args` of an application of Ray Serve may hold; tests/e2e/cluster runs one."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from bert_rt import ConfigError
from bert_rt.ray import app
from tests.support.pages import ROOT

pytest.importorskip("ray")
# Of Ray's own use of Pydantic.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.mark.parametrize(
    ("args", "want"),
    [
        ({"threads": 2}, "args: got 'threads', want one of artifact, checkpoint, device"),
        ({"num_threads": 0}, "num_threads: got 0, want an integer of at least 1"),
        ({"num_threads": True}, "num_threads: got True, want an integer of at least 1"),
        ({"max_replicas": "2"}, "max_replicas: got '2', want an integer of at least 1"),
        ({"min_replicas": 3}, r"min_replicas: got 3, want at most max_replicas \(1\)"),
        ({"max_queued_requests": -2}, "max_queued_requests: got -2, want an integer, or -1"),
        ({"target_queue_tokens": 0}, "target_queue_tokens: got 0, want a number above 0"),
        ({"target_queue_tokens": "x"}, "target_queue_tokens: got 'x', want a number above 0"),
        ({"settings": {"max_item": 3}}, "settings: got 'max_item', want one of client_header"),
        ({"settings": {"max_items": "x"}}, "max_items: got 'x', want a number above 0"),
        ({"settings": 3}, "settings: got 3, want fields by name"),
        ({"limits": "x"}, "limits: got 'x', want fields by name"),
        ({"artifact": 3}, "artifact: got 3, want a text"),
        ({"engine": None}, "engine: got None, want a text"),
        ({"max_batch_ms": "x"}, "max_batch_ms: got 'x', want a number above 0"),
        ({"max_context_cache_mb": -1}, "max_context_cache_mb: got -1, want an integer of at least"),
        ({"settings": {"max_items": 0}}, "max_items: got 0, want a number above 0"),
    ],
)
def test_what_is_refused(args: dict[str, Any], want: str) -> None:
    with pytest.raises(ConfigError, match=want):
        app(args)


def test_the_documented_file_makes_a_deployment() -> None:
    config = yaml.safe_load((ROOT / "docs" / "serving" / "ray.yaml").read_text())
    (application,) = config["applications"]
    assert application["import_path"] == "bert_rt.ray:app"
    settings = {**application["args"]["settings"], "cors_origins": ["https://example.org"]}
    made = app({**application["args"], "settings": settings})._bound_deployment
    assert made.name == "squad" == application["name"]
    assert made.ray_actor_options["num_cpus"] == 2
    assert (made.max_ongoing_requests, made.max_queued_requests) == (256, 256)
