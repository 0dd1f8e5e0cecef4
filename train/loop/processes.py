"""One process, or several that torchrun has started, on the devices that there are.

Source: torch's documentation of torchrun (environment variables) and DistributedDataParallel.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, nn

from bert_rt.engines.cpu_info import cpu_info
from bert_rt.engines.threads import resolve_num_threads
from bert_rt.errors import ConfigError

__all__ = ["Processes", "join_processes", "pick_dtype"]

# The others wait while the first one evaluates.
_TIMEOUT = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class Processes:
    """Where this process stands among those that train together.

    Attributes:
        rank: Its number, from 0.
        count: How many there are.
        device: What it computes on.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process logs, evaluates and saves."""
        return self.rank == 0

    @property
    def length_multiple(self) -> int:
        """What padded lengths should be a multiple of.

        torch prepares kernels and memory for every new shape, on a GPU for as long as a step takes
        or longer, and the GPU's attention wants multiples of 8. On a CPU padding is only waste.
        """
        return 16 if self.device.type == "cuda" else 1

    def wrap(self, model: nn.Module) -> nn.Module:
        """Make a model average its gradients over the processes."""
        if self.count == 1:
            return model
        return nn.parallel.DistributedDataParallel(model)

    def averaging(
        self, model: nn.Module, *, is_last: bool
    ) -> contextlib.AbstractContextManager[object]:
        """Hold the averaging of gradients back until a step's last micro-batch.

        Args:
            model: What wrap returned.
            is_last: Whether this is the last micro-batch.

        Returns:
            What to run the micro-batch's forward and backward pass in.
        """
        if self.count == 1 or is_last:
            return contextlib.nullcontext()
        assert isinstance(model, nn.parallel.DistributedDataParallel)
        held: contextlib.AbstractContextManager[object] = model.no_sync()
        return held

    def greatest(self, *values: float) -> list[float]:
        """Return the greatest of each value over the processes, so that all decide alike."""
        return self._reduce(values, torch.distributed.ReduceOp.MAX)

    def total(self, *values: float) -> list[float]:
        """Return the sum of each value over the processes."""
        return self._reduce(values, torch.distributed.ReduceOp.SUM)

    @contextlib.contextmanager
    def first_one_first(self) -> Iterator[None]:
        """Let the first process go through a with statement before the others.

        What it leaves in a cache, they find there.
        """
        if not self.is_first:
            self.greatest(0.0)
        yield
        if self.is_first:
            self.greatest(0.0)

    def _reduce(
        self, values: tuple[float, ...], operation: torch.distributed.ReduceOp.RedOpType
    ) -> list[float]:
        if self.count == 1:
            return list(values)
        shared: Tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(shared, operation)
        result: list[float] = shared.tolist()
        return result


@contextlib.contextmanager
def join_processes(device: str) -> Iterator[Processes]:
    """Join the processes that torchrun has started; alone without it.

    Args:
        device: "cpu", "cuda" or "auto".

    Yields:
        This process's place.

    Raises:
        ConfigError: CUDA is asked for, and torch finds none.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: got 'cuda', and torch finds no CUDA device")
    if device == "cpu" or not torch.cuda.is_available():
        place = torch.device("cpu")
        # Each process its share of the cores; torchrun's OMP_NUM_THREADS=1 is for GPUs.
        torch.set_num_threads(max(1, resolve_num_threads(None) // count))
    else:
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(place)
    with contextlib.ExitStack() as stack:
        if place.type == "cuda":
            stack.enter_context(_without_cudnn_attention())
        if count == 1:
            yield Processes(0, 1, place)
            return
        backend = "gloo" if place.type == "cpu" else "nccl"
        torch.distributed.init_process_group(backend, timeout=_TIMEOUT)
        stack.callback(torch.distributed.destroy_process_group)
        yield Processes(torch.distributed.get_rank(), count, place)


@contextlib.contextmanager
def _without_cudnn_attention() -> Iterator[None]:
    # For every new shape it makes a plan, which takes longer than a step.
    was_enabled = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(was_enabled)


def pick_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Choose what autocast computes in.

    Args:
        precision: "fp32", "bf16", or "auto".
        device: Where the model is.

    Returns:
        torch.bfloat16, or None for plain float32. Left to choose, bfloat16 is taken where the
        device has instructions that multiply it.
    """
    if precision == "auto":
        if device.type == "cuda":
            has_bf16 = torch.cuda.get_device_capability(device) >= (8, 0)
        else:
            has_bf16 = bool(cpu_info().flags & {"amx_bf16", "avx512_bf16"})
        precision = "bf16" if has_bf16 else "fp32"
    return torch.bfloat16 if precision == "bf16" else None
