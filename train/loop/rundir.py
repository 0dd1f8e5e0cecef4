"""The directory of a run: whose it is, where it can be resumed, and what its command prints."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from bert_rt.errors import InputError
from train.loop.journal import METRICS
from train.loop.loop import TrainResult
from train.loop.state import find_checkpoint

__all__ = ["file_sha256", "open_run_dir", "told"]


def open_run_dir(output_dir: Path, *, is_resumed: bool) -> Path | None:
    """Check a run's directory before hours of work.

    Args:
        output_dir: Where the run writes.
        is_resumed: Whether a run that is there shall be continued.

    Returns:
        The checkpoint to go on from; None to start.

    Raises:
        InputError: The directory holds a run that nobody asked to continue, or other files.
    """
    if output_dir.exists() and not output_dir.is_dir():
        raise InputError(f"output_dir: {output_dir} is not a directory")
    if not output_dir.exists() or not any(output_dir.iterdir()):
        output_dir.mkdir(parents=True, exist_ok=True)
        (output_dir / METRICS).touch()  # marks it as a run's
        return None
    metrics = output_dir / METRICS
    if not metrics.is_file():
        raise InputError(f"output_dir: {output_dir} is not empty and holds no run")
    # A run that ended before it had anything to lose may be started again.
    has_content = metrics.stat().st_size > 0 or find_checkpoint(output_dir) is not None
    if has_content and not is_resumed:
        raise InputError(
            f"output_dir: {output_dir} holds a run; --resume continues it, or name another one"
        )
    for half_written in output_dir.glob(".*checkpoint-*.tmp*"):  # by a run that was killed
        shutil.rmtree(half_written)
    return find_checkpoint(output_dir)


def file_sha256(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal; an InputError where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def told(result: TrainResult, output_dir: Path) -> str:
    """Say in a few lines how a run ended."""
    minutes = result.elapsed_s / 60
    rate = result.num_tokens / max(result.elapsed_s, 1e-9)
    lines = [
        f"{result.step} steps, {result.num_tokens:,} tokens, {minutes:.1f} minutes, "
        f"{rate:,.0f} tokens/s over all"
    ]
    if result.scores:
        lines.append(", ".join(f"{name} {value:.4g}" for name, value in result.scores.items()))
    if result.is_finished:
        lines.append(f"{output_dir}: the model after step {result.best_step}")
    else:
        lines.append(f"stopped by a signal; --resume goes on from step {result.step}")
    return "\n".join(lines)
