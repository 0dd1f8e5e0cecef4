"""The torch engine: the float model itself, run from the checkpoint that an artifact was made of.

It computes what compilation started from, so it is what other engines are compared with; and it
is the way to a CUDA device.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING

from bert_rt.artifact.artifact import Artifact
from bert_rt.engines.base import Engine, EngineInfo, EngineOptions, EngineSpec, check_output_names
from bert_rt.engines.forking import lost_in_fork, note_use
from bert_rt.engines.packing import pad, unpad_outputs
from bert_rt.engines.threads import resolve_num_threads
from bert_rt.errors import EngineInternalError, EngineUnavailableError
from bert_rt.types import Outputs, PackedBatch

if TYPE_CHECKING:
    from bert_rt.model.checkpoint import LoadedModel

__all__ = ["SPEC", "TorchEngine", "missing", "open_engine"]

SPEC = EngineSpec(
    name="torch",
    rank=None,
    packages={"torch": (), "safetensors": ()},
    extra="train",
    fork="refused",
    precisions=("int8", "float32"),  # of either it runs the float weights
    devices=("cpu", "cuda"),
)


def missing(artifact: Artifact | None, options: EngineOptions) -> str | None:
    """Say what is missing for this engine.

    Args:
        artifact: Where given, its checkpoint must be named in the options. Whether it is the
            right one is found out when the engine is opened.
        options: Device and checkpoint directory.

    Returns:
        None where the engine can run, else one sentence.
    """
    for package in SPEC.packages:
        if importlib.util.find_spec(package) is None:
            return f"the package {package} is not installed (pip install 'bert-rt[{SPEC.extra}]')."
    reason = lost_in_fork(SPEC.name)
    if reason is not None:
        return reason
    kind = options.device.partition(":")[0]
    if kind not in SPEC.devices:
        return f"device: got {options.device!r}, want 'cpu' or 'cuda'."
    if kind == "cuda":
        import torch

        if not torch.cuda.is_available():
            return "device: got 'cuda', and torch finds no CUDA device."
    if artifact is not None and options.checkpoint is None:
        return "checkpoint: not given; this engine runs the weights that the artifact was made of."
    return None


def open_engine(artifact: Artifact, options: EngineOptions) -> Engine:
    """Load the artifact's checkpoint.

    Args:
        artifact: The verified artifact; provenance["checkpoint_sha256"] names the weights.
        options: Device, threads, checkpoint directory and what model that is.

    Returns:
        The engine, ready to run.

    Raises:
        EngineUnavailableError: Something is missing, or the checkpoint is not the artifact's.
        CheckpointError: The checkpoint cannot be read.
        ArtifactFormatError: The task's model has other outputs than the manifest says.
    """
    reason = missing(artifact, options)
    if reason is not None:
        raise EngineUnavailableError(f"engine: 'torch' cannot run here: {reason}")
    assert options.checkpoint is not None
    assert options.head is not None, "whoever names a checkpoint knows its task"
    from bert_rt.model.checkpoint import checkpoint_hash, load_checkpoint

    want = artifact.manifest.provenance.get("checkpoint_sha256")
    got = checkpoint_hash(options.checkpoint)
    if got != want:
        raise EngineUnavailableError(
            f"checkpoint: weights in {options.checkpoint} have SHA-256 {got}; the artifact was "
            f"made of {want}"
        )
    manifest, names = artifact.manifest, options.head.outputs
    check_output_names(manifest.outputs, names)
    loaded = load_checkpoint(options.checkpoint, options.head)
    # A manifest that was read has its outputs sorted by name, not in the model's order.
    outputs = {name: manifest.outputs[name] for name in names}
    return TorchEngine(loaded, options, outputs)


class TorchEngine:
    """Runs batches through a model in float32, padded to the longest sequence."""

    def __init__(
        self, loaded: LoadedModel, options: EngineOptions, outputs: Mapping[str, str]
    ) -> None:
        """Move the model to its device and set the threads.

        torch has one number of threads for the whole process: opening this engine changes it for
        everything else that uses torch there, and for every other engine of this kind.

        Args:
            loaded: The model.
            options: Device and threads.
            outputs: Names of what the model returns, in its order, and their kinds.
        """
        import torch

        note_use(SPEC.name)
        torch.set_num_threads(resolve_num_threads(options.num_threads))
        self._model = loaded.model.to(options.device)
        self._pad_id = loaded.config.pad_token_id
        self._outputs = dict(outputs)
        self._device = options.device

    @property
    def info(self) -> EngineInfo:
        """Name, precision, device and threads of this engine."""
        import torch

        return EngineInfo(
            name=SPEC.name,
            version=torch.__version__,
            device=self._device,
            precision="float32",
            num_threads=torch.get_num_threads(),
            is_packed=False,
        )

    @property
    def outputs(self) -> Mapping[str, str]:
        """Names of what run returns, and their kind."""
        return self._outputs

    def run(self, batch: PackedBatch) -> Outputs:
        """Compute the outputs of every token (or sequence) of the batch.

        Args:
            batch: Sequences without padding.

        Returns:
            The outputs by name, float32: of shape (T, ...) per token, (B, ...) per sequence.

        Raises:
            EngineInternalError: torch failed, for example for lack of memory.
            ArtifactFormatError: As in unpad_outputs.
        """
        import torch

        try:
            with torch.inference_mode():
                inputs = (torch.from_numpy(x) for x in pad(batch, self._pad_id))
                outputs = self._model(*(x.to(self._device) for x in inputs))
            tensors = outputs if isinstance(outputs, tuple) else (outputs,)
            arrays = [tensor.cpu().numpy() for tensor in tensors]
        except (RuntimeError, IndexError) as error:
            raise EngineInternalError(f"torch failed on a batch: {error}") from error
        return unpad_outputs(dict(zip(self._outputs, arrays, strict=True)), self._outputs, batch)

    def close(self) -> None:
        """Free the model. Calling it twice is harmless."""
        self._model.to("meta")
