"""The training loop: what every task goes through, from the first step to the last.

A step is a pure function of the weights, the optimizer's state, the step's number and the seed: the
micro-batches come by their index, and dropout is seeded by it. So a run that is resumed from a
checkpoint does exactly what it would have done without the interruption, and several processes
do what one does with as many more micro-batches a step.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bert_rt.errors import TrainingError
from bert_rt.support.progress import Progress, progress
from train.loop.allocator import allocator_advice
from train.loop.feeder import Feeder
from train.loop.interrupts import stop_on_signals
from train.loop.journal import Journal, diagnose
from train.loop.meter import Meter, encoder_flops, matmul_rate
from train.loop.objective import Objective
from train.loop.processes import Processes, pick_dtype
from train.loop.scoring import score
from train.loop.state import TrainerState, load_state, save_state
from train.optim.attention import use_fast_attention
from train.optim.dropout import use_fast_dropout
from train.optim.optimizers import OPTIMIZERS, AdamW, clip_gradients, parameter_groups
from train.optim.schedule import progress_of, rate_at
from train.optim.split_layers import use_shared_passages
from train.options import TrainOptions

__all__ = ["TrainResult", "train"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a run ended.

    Attributes:
        is_finished: False where a signal ended the run early; it can be resumed.
        step: Steps of the optimizer, those before a resumption included.
        elapsed_s: Seconds of training, likewise.
        num_tokens: Tokens that were no padding, likewise.
        scores: What the last evaluation gave; empty where there was none.
        best_score: The best value of the objective's best_metric; None without evaluation.
        best_step: The step after which it was measured.
    """

    is_finished: bool
    step: int
    elapsed_s: float
    num_tokens: int
    scores: Mapping[str, float]
    best_score: float | None
    best_step: int


def train(
    model: nn.Module,
    objective: Objective,
    options: TrainOptions,
    output_dir: Path,
    processes: Processes,
    *,
    fingerprint: Mapping[str, Any],
    resume_from: Path | None = None,
) -> TrainResult:
    """Train a model.

    Args:
        model: The model; of a resumed run, with the weights of the checkpoint.
        objective: Its task.
        options: How.
        output_dir: Gets checkpoints, metrics.jsonl, curves.png and, in the end, the model: that
            of the best evaluation where there are evaluations on the way, else the last one.
        processes: Who trains together.
        fingerprint: What a resumed run must have in common with the first one, such as the hash
            of the data; the options are compared beside it.
        resume_from: A checkpoint of this run; None to start.

    Returns:
        How the run ended. SIGTERM and SIGINT end it, with a checkpoint, after the current step;
        a scoring is given up, and due when the run is resumed.

    Raises:
        TrainingError: The loss is no number any more, or the checkpoint is another run's.
        OSError: A file cannot be written; the checkpoints before it stay.
    """
    trainer = _Trainer(model, objective, options, output_dir, processes)
    trainer.state.fingerprint = {**options.fingerprint(), **fingerprint}
    if resume_from is not None:
        trainer.state = load_state(resume_from, trainer.optimizer, trainer.state.fingerprint)
    with trainer.tools(), stop_on_signals() as stop:
        is_finished = trainer.run(stop)
    state = trainer.state
    return TrainResult(
        is_finished=is_finished,
        step=state.step,
        elapsed_s=state.elapsed_s,
        num_tokens=state.num_tokens,
        scores=trainer.scores,
        best_score=state.best_score,
        best_step=state.best_step,
    )


class _Trainer:
    """A run: its parts, and how far it has come."""

    journal: Journal
    bar: Progress
    feeder: Feeder
    meter: Meter

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        options: TrainOptions,
        output_dir: Path,
        processes: Processes,
    ) -> None:
        self.objective = objective
        self.options = options
        self.output_dir = output_dir
        self.processes = processes
        self.state = TrainerState()
        self.scores: Mapping[str, float] = {}
        self.model = model.to(processes.device).train()
        if options.dropout is not None:
            for module in self.model.modules():
                if isinstance(module, nn.Dropout):
                    module.p = options.dropout
        is_plain = processes.device.type == "cpu" and not options.torch_compile
        self.random_bytes = use_fast_dropout(self.model) if is_plain else None
        if is_plain:
            use_fast_attention(self.model)
            use_shared_passages(self.model)
        groups = parameter_groups(
            self.model, weight_decay=options.weight_decay, layer_decay=options.layer_decay
        )
        self.optimizer: AdamW = OPTIMIZERS[options.optimizer](
            groups,
            learning_rate=options.learning_rate,
            betas=(options.adam_beta1, options.adam_beta2),
            eps=options.adam_epsilon,
        )
        self.wrapped = processes.wrap(self.model)
        # Lengths differ from batch to batch; compiled for any, not anew for each.
        self.called: Any = (
            torch.compile(self.wrapped, dynamic=True) if options.torch_compile else self.wrapped
        )
        self.dtype = pick_dtype(options.precision, processes.device)
        self.total_steps = options.total_steps(objective.num_micro_batches, processes.count)
        self.max_seconds = None if options.max_minutes is None else 60.0 * options.max_minutes
        self._last_warning: str | None = None

    @contextlib.contextmanager
    def tools(self) -> Iterator[None]:
        """Open what a run needs while it goes: journal, bar, data, and the measure of speed."""
        processes = self.processes
        peak_rate = processes.count * matmul_rate(processes.device, self.dtype)
        self.meter = Meter(peak_rate, encoder_flops(self.model))
        self.start_s = time.perf_counter() - self.state.elapsed_s
        with contextlib.ExitStack() as stack:
            self.feeder = stack.enter_context(Feeder(self.objective))
            if processes.is_first:
                if processes.device.type == "cpu" and (advice := allocator_advice()):
                    _log.warning("%s", advice)
                self.journal = Journal(
                    self.output_dir,
                    resumed_step=self.state.step,
                    evaluated_step=self.state.evaluated_step,
                )
                stack.callback(self.journal.close)
                self.bar = stack.enter_context(
                    progress(
                        self.objective.name,
                        total=self.total_steps,
                        unit="steps",
                        already_done=self.state.step,
                    )
                )
            yield

    def run(self, stop: threading.Event) -> bool:
        """Take steps until the run is over, and return True, or until stop is set."""
        options, state = self.options, self.state
        saved_step = -1
        while True:
            # What decides is shared, so that all processes end with the same step.
            state.elapsed_s, is_stopped, num_bad_evaluations, evaluated_step = (
                self.processes.greatest(
                    time.perf_counter() - self.start_s,
                    float(stop.is_set()),
                    state.num_bad_evaluations,
                    state.evaluated_step,
                )
            )
            done = progress_of(state.step, self.total_steps, state.elapsed_s, self.max_seconds)
            has_no_patience = 0 < options.early_stopping_patience <= num_bad_evaluations
            is_finished = done >= 1.0 or has_no_patience
            if is_finished or is_stopped:
                break
            due_step = state.step - state.step % options.eval_steps if options.eval_steps else 0
            if evaluated_step < due_step:
                if not self.meter.is_empty:
                    self.log(done)
                self.evaluate(stop)
                saved_step = -1  # What is on the disk does not know the score.
                continue
            self.take_step(done)
            is_saved = bool(options.save_steps) and state.step % options.save_steps == 0
            if is_saved or state.step % options.logging_steps == 0:
                self.log(done)
            if is_saved:
                self.save()
                saved_step = state.step
        if not self.meter.is_empty:
            self.log(done)
        if saved_step != state.step:
            self.save()
        if is_finished and evaluated_step != state.step:
            is_finished = self.evaluate(stop)
        return is_finished

    def take_step(self, done: float) -> None:
        """Take one step of the optimizer; done is the share of the run before it."""
        options, processes = self.options, self.processes
        count = options.gradient_accumulation_steps
        for turn in range(count):
            # Dealt out to the processes in turn: what two of them do in a step, one does with
            # twice the accumulation.
            index = (self.state.step * count + turn) * processes.count + processes.rank
            batch = self.feeder.take(index, index + processes.count)
            self.seed(index)
            tensors = {name: tensor.to(processes.device) for name, tensor in batch.tensors.items()}
            with processes.averaging(self.wrapped, is_last=turn == count - 1):
                with torch.autocast(
                    processes.device.type, self.dtype, enabled=self.dtype is not None
                ):
                    loss, parts = self.objective.loss(self.called, tensors)
                (loss / count).backward()
            self.meter.add({"loss": loss, **parts}, share=1.0 / count)
            self.meter.count(tokens=batch.num_tokens, positions=batch.num_positions)
        self.meter.add({"grad_norm": clip_gradients(self.model, options.max_grad_norm)})
        self.optimizer.set_learning_rate(
            options.learning_rate * rate_at(done, options.warmup_ratio)
        )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.state.step += 1
        self.meter.count(steps=1)
        if processes.is_first:
            self.bar.advance()

    def seed(self, index: int) -> None:
        """Make dropout depend on the micro-batch alone."""
        if self.random_bytes is not None:
            self.random_bytes.reseed(self.options.seed, index)
        else:
            torch.manual_seed(hash((self.options.seed, index)) & (2**63 - 1))

    def log(self, done: float) -> None:
        """Write a line of metrics, and a word where something is wrong."""
        means = self.meter.means()
        names = sorted(means)
        shared = self.processes.total(*(means[name] for name in names), *self.meter.counts)
        *sums, tokens, positions = shared
        means = {
            name: value / self.processes.count for name, value in zip(names, sums, strict=True)
        }
        self.state.num_tokens += int(tokens)
        bad = [name for name, value in means.items() if not math.isfinite(value)]
        if bad:
            raise TrainingError(
                f"step {self.state.step}: {bad[0]} is {means[bad[0]]}; the learning rate "
                f"({self.options.learning_rate:g}) is probably too high. The checkpoints before "
                "this step are sound"
            )
        if self.processes.is_first:
            self._write_line(done, means, self.meter.rates(tokens, positions))
        self.meter.restart()

    def _write_line(self, done: float, means: dict[str, float], rates: dict[str, float]) -> None:
        options, state = self.options, self.state
        self.journal.write(
            {
                "step": state.step,
                **means,
                "learning_rate": options.learning_rate * rate_at(done, options.warmup_ratio),
                **rates,
                "elapsed_s": state.elapsed_s,
                "num_tokens": state.num_tokens,
            }
        )
        note = f"loss {means['loss']:.3f}, {rates['tokens_per_second']:.0f} tokens/s"
        note += f", {100 * rates['mfu']:.0f} % of the matmul rate"
        if self.max_seconds is not None:
            note += f", {state.elapsed_s / 60:.1f} of {self.max_seconds / 60:g} minutes"
        self.bar.advance(0, note)
        losses = [line["loss"] for line in self.journal.lines if "loss" in line]
        warning = diagnose(losses, done, options.warmup_ratio, self.objective.trivial_loss)
        if warning is not None and warning[:20] != self._last_warning:
            _log.warning("step %d: %s", state.step, warning)
            self._last_warning = warning[:20]

    def evaluate(self, stop: threading.Event) -> bool:
        """Score the model; it goes into the output directory where it is the best so far.

        Args:
            stop: Set where a signal has come.

        Returns:
            Whether all was scored; False where stop was set meanwhile: the run, resumed, does it.
        """
        is_whole = not self.processes.is_first or self._score(stop)
        return not any(self.processes.greatest(float(not is_whole)))

    def _score(self, stop: threading.Event) -> bool:
        state = self.state
        scores = score(self.model, self.objective, stop)
        self.meter.restart()
        if scores is None:
            return False
        self.scores = scores
        state.evaluated_step = state.step
        if self.scores:
            self.journal.write(
                {"step": state.step, **{f"dev_{k}": v for k, v in self.scores.items()}}
            )
            note = ", ".join(f"{name} {value:.4g}" for name, value in self.scores.items())
            self.bar.advance(0, note)
        value = self.scores.get(self.objective.best_metric)
        if value is None or state.best_score is None or value > state.best_score:
            state.best_score, state.best_step, state.num_bad_evaluations = value, state.step, 0
            self.objective.save(self.model, self.output_dir)
        else:
            state.num_bad_evaluations += 1
        return True

    def save(self) -> None:
        """Write a checkpoint."""
        if self.processes.is_first:
            save_state(
                self.output_dir,
                self.state,
                self.optimizer,
                lambda directory: self.objective.save(self.model, directory),
                keep=self.options.save_total_limit,
            )
