"""Extractive question answering: windows with their answers' positions -> loss.

Shapes: B windows, S padded length, K answers of a window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bert_rt.engines.base import EngineOptions
from bert_rt.engines.torch import TorchEngine
from bert_rt.errors import ConfigError, InputError
from bert_rt.model.checkpoint import LoadedModel, read_tokenizer_files, save_checkpoint
from bert_rt.model.config import BertConfig
from bert_rt.scheduling.scheduler import Scheduler
from bert_rt.support.faults import Dropped
from bert_rt.tasks.base import CallOptions
from bert_rt.tasks.checkpoints import load_model
from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.tasks.question_answering.answering import QuestionAnswering as AnsweringTask
from bert_rt.tasks.question_answering.features import check_split_windows
from bert_rt.tasks.question_answering.no_answer import always_answering, score_answers
from bert_rt.tasks.question_answering.squad import SquadExample, read_squad
from bert_rt.tasks.session import Session
from bert_rt.text.tokenization import Tokenizer
from train.data.batching import EpochBatches, Padding
from train.loop.objective import MicroBatch
from train.tasks.distillation import (
    Teacher,
    recorded_states,
    soft_cross_entropy,
    state_distance,
)
from train.tasks.question_answering.windows import Window, make_windows

__all__ = ["QuestionAnswering", "make_question_answering", "span_loss"]

_NO_ANSWER = -1
_EVALUATION_TOKENS = 8192


def span_loss(start_logits: Tensor, end_logits: Tensor, spans: Tensor) -> Tensor:
    """Compute the loss of start and end logits against all places of an answer.

    Args:
        start_logits: Shape (B, S), float32, -inf at padding.
        end_logits: Likewise.
        spans: Shape (B, K, 2), int64; first and last token of a place, -1 where there are fewer.

    Returns:
        The mean over the windows of -log p / 2, with p the probability of all places together; with
        one place a window this is the paper's mean of two cross-entropies.

    Source: Devlin et al. 2018, section 4.2; several places as in Clark and Gardner 2017,
        arXiv:1710.10723, section 3.2.
    """
    first, last = spans.clamp(min=0).unbind(-1)
    start_logs = start_logits.float().log_softmax(-1).gather(1, first)
    end_logs = end_logits.float().log_softmax(-1).gather(1, last)
    logs = (start_logs + end_logs).masked_fill(spans[..., 0] == _NO_ANSWER, -math.inf)
    return -logs.logsumexp(-1).mean() / 2


class QuestionAnswering:
    """The objective of question answering; see train.loop.objective.Objective."""

    name = "question-answering"

    def __init__(
        self,
        loaded: LoadedModel,
        windows: Sequence[Window],
        held_out: Sequence[SquadExample],
        tokenizer: Tokenizer,
        tokenizer_files: Mapping[str, bytes],
        config: AnsweringConfig,
        *,
        batch_size: int,
        seed: int,
        teacher: Teacher | None = None,
    ) -> None:
        """Hold the data.

        Args:
            loaded: The model and what its checkpoint says.
            windows: To train on.
            held_out: Questions to evaluate on; none for no evaluation.
            tokenizer: The model's.
            tokenizer_files: What is written beside the weights.
            config: Windows, and how answers are read.
            batch_size: Windows of a micro-batch.
            seed: Decides their order.
            teacher: A model to learn from, beside the answers.
        """
        # With questions that have no answer the threshold is found when the model is compiled.
        self.best_metric = "f1" if all(example.answers for example in held_out) else "best_f1"
        self._loaded = loaded
        self._windows = windows
        self._held_out = held_out
        self._tokenizer = tokenizer
        self._tokenizer_files = tokenizer_files
        self._config = config
        self.padding = Padding(loaded.config.max_sequence_length)
        self._teacher = teacher
        lengths = [window.feature.num_tokens for window in windows]
        groups = None
        if loaded.config.num_split_layers:
            # Those of one passage together, for split layers run over it once a batch.
            lengths = [window.feature.context_length for window in windows]
            groups = _passage_numbers(windows)
        self._batches = EpochBatches(lengths, batch_size, seed, groups)
        self.num_micro_batches = self._batches.num_batches
        # Picking start and end from the context at random. A loss against a teacher is on another
        # scale, by its temperature and by the distance of states.
        self.trivial_loss: float | None = None
        if teacher is None:
            logs = [math.log(window.feature.context_length) for window in windows]
            self.trivial_loss = sum(logs) / len(logs)

    def micro_batch(self, index: int) -> MicroBatch:
        """Make the index-th micro-batch, padded to its longest window."""
        windows = [self._windows[i] for i in self._batches[index]]
        features = [window.feature for window in windows]
        pad = self.padding.rectangle
        input_ids = pad([f.input_ids for f in features], self._tokenizer.pad_id)
        spans = np.full((len(windows), max(len(w.spans) for w in windows), 2), _NO_ANSWER)
        for row, window in zip(spans, windows, strict=True):
            row[: len(window.spans)] = window.spans
        arrays = {
            "input_ids": input_ids,
            "attention_mask": pad([np.ones_like(f.input_ids) for f in features], 0),
            "token_type_ids": pad([f.token_type_ids for f in features], 0),
            "spans": spans.astype(np.int64),
        }
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return MicroBatch(tensors, sum(f.num_tokens for f in features), input_ids.size)

    def loss(
        self, model: nn.Module, tensors: Mapping[str, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Compute span_loss, mixed with the distance to the teacher where there is one."""
        inputs = [tensors[name] for name in ("input_ids", "attention_mask", "token_type_ids")]
        is_padding = tensors["attention_mask"] == 0
        teacher = self._teacher
        has_states = teacher is not None and teacher.states_weight > 0.0
        # Of split layers the states cannot be the teacher's.
        first = self._loaded.config.num_split_layers if has_states else None
        with recorded_states(model, first) as states:
            start, end = (x.float().masked_fill(is_padding, -math.inf) for x in model(*inputs))
        loss = span_loss(start, end, tensors["spans"])
        if teacher is None:
            return loss, {}
        with recorded_states(teacher.model, first) as teacher_states:
            teacher_logits = teacher.logits(*inputs)
        soft = torch.zeros_like(loss)
        for student, wanted in zip((start, end), teacher_logits, strict=True):
            masked = wanted.masked_fill(is_padding, -math.inf)
            soft = soft + soft_cross_entropy(student, masked, teacher.temperature) / 2
        mixed = (1.0 - teacher.weight) * loss + teacher.weight * soft
        figures = {"answer_loss": loss.detach(), "teacher_loss": soft.detach()}
        if has_states:
            distance = state_distance(states, teacher_states, tensors["attention_mask"])
            mixed = mixed + teacher.states_weight * distance
            figures["state_distance"] = distance.detach()
        return mixed, figures

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """Answer the held-out questions: "f1" and "exact_match" in percent, and v2.0's figures."""
        if not self._held_out:
            return {}
        loaded = LoadedModel(
            model,  # type: ignore[arg-type]
            self._loaded.config,
            self._loaded.raw_config,
            (),
            (),
        )
        threads = torch.get_num_threads()
        device = next(model.parameters()).device.type
        engine = TorchEngine(loaded, EngineOptions(device, threads, None), AnsweringTask().outputs)
        scheduler = Scheduler(engine, max_batch_tokens=_EVALUATION_TOKENS, max_queue_tokens=2**31)
        session = Session(
            self._tokenizer,
            scheduler,
            passage_position_offset=self._loaded.config.passage_position_offset,
        )
        pairs = ((example.question, example.context) for example in self._held_out)
        answers = session.stream(
            AnsweringTask(), pairs, CallOptions(limits=always_answering(self._config))
        )
        scored = score_answers(self._held_out, answers, self._config)
        scores = scored.scores
        return {"f1": scores.f1, "exact_match": scores.exact_match, **scored.no_answer}

    def save(self, model: nn.Module, directory: Path) -> None:
        """Write a checkpoint that compile.export reads."""
        save_checkpoint(
            directory,
            model,  # type: ignore[arg-type]
            self._loaded.config,
            tokenizer_files=self._tokenizer_files,
            extra=self._loaded.raw_config,
        )


def _passage_numbers(windows: Sequence[Window]) -> list[int]:
    """Number the different passages of windows, from 0, in their order."""
    numbers: dict[bytes, int] = {}
    found = []
    for window in windows:
        feature = window.feature
        passage = feature.input_ids[feature.context_offset :].tobytes()
        found.append(numbers.setdefault(passage, len(numbers)))
    return found


def _check_length(config: AnsweringConfig, architecture: BertConfig) -> None:
    check_split_windows(config, architecture)
    longest = architecture.max_sequence_length
    if config.max_seq_length > longest:
        raise ConfigError(
            f"max_seq_length: got {config.max_seq_length}, want at most the model's longest "
            f"sequence ({longest})"
        )


def _read_training(
    file: Path, config: AnsweringConfig, dropped: Dropped | None
) -> list[SquadExample]:
    examples = read_squad(file, dropped=dropped, check_positions=True)
    impossible = [example for example in examples if example.is_impossible]
    if impossible and not config.version_2_with_negative:
        raise InputError(
            f"{impossible[0].place} has no answer; want --version_2_with_negative for such data "
            f"({len(impossible)} of {len(examples)} questions)"
        )
    return examples


def _load(
    model_dir: Path, weights_dir: Path | None, config: AnsweringConfig, num_split_layers: int | None
) -> LoadedModel:
    """Load the model, with as many split layers as are asked for, and check its windows."""
    changes = {}
    if num_split_layers is not None:
        changes = {
            "num_split_layers": num_split_layers,
            "passage_position_offset": config.max_query_length + 2 if num_split_layers else 0,
        }
    loaded = load_model(
        weights_dir or model_dir,
        "question-answering",
        allow_new_head=weights_dir is None,
        changes=changes,
    )
    _check_length(config, loaded.config)
    return loaded


def make_question_answering(
    model_dir: Path,
    train_files: Sequence[Path],
    validation_file: Path | None,
    *,
    weights_dir: Path | None,
    config: AnsweringConfig,
    batch_size: int,
    seed: int,
    all_positions: bool = True,
    teacher: Teacher | None = None,
    num_split_layers: int | None = None,
    dropped: Dropped | None = None,
) -> tuple[nn.Module, QuestionAnswering]:
    """Load a model and its data.

    Args:
        model_dir: The checkpoint that training starts from.
        train_files: SQuAD files, v1.1 or v2.0.
        validation_file: A SQuAD file, or None.
        weights_dir: A checkpoint of the run that is resumed; None for a new run.
        config: Windows, and how answers are read.
        batch_size: Windows of a micro-batch.
        seed: Decides new weights and the order of the data.
        all_positions: As in make_windows.
        teacher: A model to learn from.
        num_split_layers: As in train.tasks.question_answering.task.Options.
        dropped: As in read_squad, for all files.

    Returns:
        The model and its objective.

    Raises:
        InputError: A file is damaged, an answer is not in its context, or a question has none and
            version_2_with_negative is off.
        CheckpointError: The checkpoint cannot be read.
        ConfigError: The windows, or so many split layers, do not fit the model.
    """
    torch.manual_seed(seed)
    loaded = _load(model_dir, weights_dir, config, num_split_layers)
    tokenizer = Tokenizer.from_directory(model_dir)
    # All files first: what is wrong with the last one should be reported before minutes of work.
    asked = [one for file in train_files for one in _read_training(file, config, dropped)]
    held_out = [] if validation_file is None else read_squad(validation_file, dropped=dropped)
    is_split = loaded.config.num_split_layers > 0
    windows = make_windows(asked, tokenizer, config, all_positions=all_positions, is_split=is_split)
    objective = QuestionAnswering(
        loaded,
        windows,
        held_out,
        tokenizer,
        read_tokenizer_files(model_dir),
        config,
        batch_size=batch_size,
        seed=seed,
        teacher=teacher,
    )
    return loaded.model, objective
