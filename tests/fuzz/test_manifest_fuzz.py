"""Random manifests: reading one gives a manifest that round-trips, or a typed error."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bert_rt.artifact.manifest import Manifest, manifest_from_json, manifest_to_json
from bert_rt.errors import ArtifactError
from tests.unit.bert_rt.artifact.artifact_samples import write_sample

_FUZZ = settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["bert", "int8", "model.onnx", "..", "\0", "\ud800", 2**31, 2**70, -1]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=10,
)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The JSON of a valid manifest."""
    path = tmp_path_factory.mktemp("sample") / "art"
    write_sample(path)
    return (path / "manifest.json").read_bytes()


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every position in a JSON value, as keys and indices from the top."""
    yield path
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        yield from _places(item, (*path, key))


def _replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    value = copy.copy(value)
    value[path[0]] = _replaced(value[path[0]], path[1:], new)
    return value


def _read(data: bytes) -> Manifest | None:
    try:
        return manifest_from_json(data)
    except ArtifactError:
        return None


@_FUZZ
@given(data=st.data())
def test_any_value_in_any_place(data: st.DataObject, sample: bytes) -> None:
    values = json.loads(sample)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(list(_places(values))))
        values = _replaced(values, place, data.draw(_JSON))
    manifest = _read(json.dumps(values).encode())
    if manifest is not None:
        assert manifest_from_json(manifest_to_json(manifest)) == manifest


@pytest.mark.parametrize(
    "value", [None, True, -1, 0, 1.5, "", "x", [], [[]], {}, {"": {}}, 2**62], ids=repr
)
def test_every_place_takes_every_type_or_refuses_it(sample: bytes, value: object) -> None:
    values = json.loads(sample)
    for place in _places(values):
        manifest = _read(json.dumps(_replaced(values, place, value)).encode())
        assert manifest is None or manifest_from_json(manifest_to_json(manifest)) == manifest


@_FUZZ
@given(data=st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    with pytest.raises(ArtifactError):
        manifest_from_json(data)


@_FUZZ
@given(data=st.data())
def test_any_bytes_anywhere_in_the_manifest(data: st.DataObject, sample: bytes) -> None:
    text = bytearray(sample)
    start = data.draw(st.integers(0, len(text)))
    text[start : start + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    manifest = _read(bytes(text))
    if manifest is not None:
        assert manifest_from_json(manifest_to_json(manifest)) == manifest
