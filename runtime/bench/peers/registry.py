"""The engines that bench can measure, one line each: how all configurations of one are opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from runtime.bench.peers.base import Peers, Setup, open_native
from runtime.bench.peers.onnxruntime import open_onnxruntime
from runtime.bench.peers.openvino import open_openvino
from runtime.bench.peers.torch import open_torch

__all__ = ["PEERS"]

PEERS: Mapping[str, Callable[[Setup], Peers]] = MappingProxyType(
    {
        "native": open_native,
        "onnxruntime": open_onnxruntime,
        "openvino": open_openvino,
        "torch": open_torch,
    }
)
