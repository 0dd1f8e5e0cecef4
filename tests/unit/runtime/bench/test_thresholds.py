from __future__ import annotations

import json
from pathlib import Path

import pytest

from bert_rt.errors import InputError
from runtime.bench.thresholds import check, read_thresholds, thresholds_of

_RATIOS = {"native/openvino": {"engine": {"median": 1.6}, "p50_latency": {"median": 0.9}}}


def test_names_every_ratio_that_does_not_hold() -> None:
    failures = check(
        _RATIOS,
        [
            {"ratio": "native/openvino", "scope": "engine", "minimum": 1.5},
            {"ratio": "native/openvino", "scope": "engine", "minimum": 1.7},
            {"ratio": "native/openvino", "scope": "p50_latency", "maximum": 0.8},
            {"ratio": "native/torch", "scope": "engine", "minimum": 1.0},
        ],
    )
    assert failures == [
        "native/openvino, engine: 1.600, want at least 1.7",
        "native/openvino, p50_latency: 0.900, want at most 0.8",
        "native/torch, engine: was not measured in this run",
    ]


def test_the_projects_own_thresholds_can_be_read() -> None:
    path = Path(__file__).parents[4] / "benchmarks" / "thresholds.json"
    thresholds = read_thresholds(path)
    for isa in ("amx_int8", "avx512vnni", "avx2"):
        assert len(thresholds_of(thresholds, isa)) >= 4


def test_a_threshold_may_be_for_some_instruction_sets() -> None:
    everywhere = {"ratio": "a/b", "scope": "engine", "minimum": 1}
    somewhere = {**everywhere, "isas": ["avx2"]}
    assert thresholds_of([everywhere, somewhere], "avx2") == [everywhere, somewhere]
    assert thresholds_of([everywhere, somewhere], "amx_int8") == [everywhere]


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"thresholds": []},
        {"thresholds": [{"ratio": "a/b", "scope": "engine"}]},
        {"thresholds": [{"ratio": "a/b", "scope": "engine", "minimum": 1, "maximum": 2}]},
        {"thresholds": [{"ratio": 3, "scope": "engine", "minimum": 1}]},
        {"thresholds": [{"ratio": "a/b", "scope": "engine", "minimum": 1, "isas": "avx2"}]},
    ],
)
def test_other_forms_are_refused(tmp_path: Path, document: object) -> None:
    path = tmp_path / "thresholds.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"thresholds\.json"):
        read_thresholds(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_thresholds(tmp_path / "absent.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        read_thresholds(tmp_path / "bad.json")
