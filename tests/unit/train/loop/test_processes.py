"""Where a process trains, and what follows from the device."""

import pytest
import torch

from train.loop.processes import join_processes


def test_a_cpu_pads_to_the_longest_and_leaves_attention_alone() -> None:
    was_enabled = torch.backends.cuda.cudnn_sdp_enabled()
    with join_processes("cpu") as processes:
        assert processes.length_multiple == 1
        assert torch.backends.cuda.cudnn_sdp_enabled() == was_enabled


@pytest.mark.parametrize("was_enabled", [True, False])
def test_a_gpu_rounds_lengths_up_and_does_without_cudnn_meanwhile(
    monkeypatch: pytest.MonkeyPatch, was_enabled: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(was_enabled)
    try:
        with join_processes("cuda") as processes:
            assert processes.device == torch.device("cuda", 0)
            assert processes.length_multiple == 16
            assert not torch.backends.cuda.cudnn_sdp_enabled()
        assert torch.backends.cuda.cudnn_sdp_enabled() == was_enabled
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)
