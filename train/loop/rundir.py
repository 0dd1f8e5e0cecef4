"""The directory of a run: whose it is, where it can be resumed, and what its command prints."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from bert_rt.errors import InputError
from train.loop.journal import METRICS
from train.loop.loop import TrainResult
from train.loop.state import find_checkpoint

__all__ = ["check_run_dir", "file_sha256", "mark_run_dir", "run_directory", "summarize"]


@contextlib.contextmanager
def run_directory(output_dir: Path) -> Iterator[None]:
    """Leave no empty directory behind where a run is refused or fails before it wrote anything.

    Args:
        output_dir: Where the run writes; may be missing.

    Yields:
        Nothing: within it the run is checked and done.
    """
    absolute = output_dir.absolute()
    missing = [path for path in (absolute, *absolute.parents) if not path.exists()]
    metrics = absolute / METRICS
    was_marked = metrics.exists()
    try:
        yield
    except BaseException:
        # A directory that holds anything stays, and so do those around it.
        with contextlib.suppress(OSError):
            if not was_marked:
                _remove_marks(absolute, metrics)
            for path in missing:
                path.rmdir()
        raise


def _remove_marks(directory: Path, metrics: Path) -> None:
    """Remove an empty metrics.jsonl and empty directories, unless there is anything else."""
    others = [path for path in directory.iterdir() if path != metrics]
    if all(path.is_dir() and not any(path.iterdir()) for path in others):
        if metrics.exists() and not metrics.stat().st_size:
            metrics.unlink()
        for path in others:
            path.rmdir()


def mark_run_dir(output_dir: Path) -> None:
    """Make a run's directory and mark it as one, for what is written before the first metrics.

    Args:
        output_dir: Where the run writes.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    (output_dir / METRICS).touch()


def check_run_dir(output_dir: Path, *, is_resumed: bool) -> Path | None:
    """Check a run's directory before hours of work; one that is missing is not made.

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


def summarize(result: TrainResult, output_dir: Path) -> str:
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
