"""Masked language modelling and next-sentence prediction together, from raw text.

Source: Devlin et al. 2018, arXiv:1810.04805, section 3.1 and appendix A.2, and
run_pretraining.py of github.com/google-research/bert.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bert_rt.errors import ConfigError
from bert_rt.model.architectures import check_has_task
from bert_rt.model.checkpoint import save_checkpoint
from bert_rt.model.config import BertConfig
from bert_rt.model.heads import BertForPreTraining
from train.data.corpus import prepare_corpus, tokenizer_backend
from train.data.masking import MASKED_SHARE
from train.data.pairs import make_pairs
from train.data.phases import Phase, check_phases
from train.loop.objective import MicroBatch
from train.optim.initialization import initialize_local
from train.recipes import INITIALIZATIONS
from train.tasks.pretraining_data import PhaseBatches, PretrainingData, divide, unigram_entropy

__all__ = ["PretrainingObjective", "make_pretraining"]

_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "masked_positions")
# Held-out data are cut and masked alike in every run, so that scores can be compared.
_HELD_OUT_SEED = 0
_MOST_MASKED = 0.8
_HELD_OUT_BATCH_SIZE = 32


class PretrainingObjective:
    """BERT's own task: both losses, over documents cut anew and masked anew in every epoch.

    Attributes:
        name: "pretraining".
        best_metric: "mlm_accuracy".
        num_micro_batches: Micro-batches of one pass, with the sequences of the first phase.
        trivial_loss: The unigram entropy of the training tokens, and ln 2 for the next sentence.
        phases: The run's phases.
        data: Its text.
        config: The model's architecture.
        mlm_probability: Share of the tokens that are masked in training.
    """

    name = "pretraining"
    best_metric = "mlm_accuracy"

    def __init__(
        self,
        data: PretrainingData,
        *,
        config: BertConfig,
        tokenizer_files: Mapping[str, bytes],
        phases: Sequence[Phase],
        seed: int,
        mlm_probability: float = MASKED_SHARE,
        max_held_out_sequences: int = 1024,
    ) -> None:
        """Take over the data, and cut the first epoch.

        Args:
            data: The text.
            config: The model's architecture.
            tokenizer_files: The tokenizer, to be saved beside the model.
            phases: At least one; all but the last with a number of micro-batches.
            seed: The run's seed.
            mlm_probability: Share of the tokens that are masked in training; the score is always
                with the paper's 15 %.
            max_held_out_sequences: Most sequences that evaluate scores.

        Raises:
            ConfigError: The phases do not fit the model or each other, or mlm_probability is out
                of range.
        """
        check_phases(phases, config)
        _check_masking(mlm_probability)
        self.mlm_probability = mlm_probability
        self.data = data
        self.phases = tuple(phases)
        self.config = config
        self._tokenizer_files = dict(tokenizer_files)
        self._seed = seed
        self._max_held_out_sequences = max_held_out_sequences
        self._batches = PhaseBatches(data, self.phases[0], seed)
        self.num_micro_batches = self._batches.num_batches
        entropy = unigram_entropy(data.corpus, without=data.held_out)
        self.trivial_loss: float | None = entropy + math.log(2)

    def with_phases(self, phases: Sequence[Phase]) -> PretrainingObjective:
        """Return the same objective with other phases.

        Args:
            phases: As in __init__. How long a run is may follow from num_micro_batches, and the
                paper's phases from that.

        Returns:
            A new objective.

        Raises:
            ConfigError: The phases do not fit the model or each other.
        """
        return PretrainingObjective(
            self.data,
            config=self.config,
            tokenizer_files=self._tokenizer_files,
            phases=phases,
            seed=self._seed,
            mlm_probability=self.mlm_probability,
            max_held_out_sequences=self._max_held_out_sequences,
        )

    def micro_batch(self, index: int) -> MicroBatch:
        """Make the index-th micro-batch of the run.

        Args:
            index: From 0, over all epochs and phases; the last phase has no end.

        Returns:
            The micro-batch; its tensors are those of PretrainingData.micro_batch.
        """
        local = index
        for phase in self.phases[:-1]:
            if local < (phase.num_micro_batches or 0):
                break
            local -= phase.num_micro_batches or 0
        else:
            phase = self.phases[-1]
        if self._batches.phase is not phase:
            self._batches = PhaseBatches(self.data, phase, self._seed)
        pairs, rows = self._batches[local]
        return self.data.micro_batch(
            pairs,
            rows,
            max_seq_length=phase.max_seq_length,
            seed=self._seed,
            index=index,
            masked_share=self.mlm_probability,
        )

    def loss(
        self, model: nn.Module, tensors: Mapping[str, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Compute the mean loss of the masked tokens plus that of the next sentences.

        Args:
            model: BertForPreTraining, possibly wrapped.
            tensors: As in PretrainingData.micro_batch.

        Returns:
            The loss in nats, and its parts "mlm_loss", "nsp_loss", "mlm_accuracy" and
            "nsp_accuracy".
        """
        mlm_logits_MV, nsp_logits_B2 = model(*(tensors[name] for name in _INPUTS))
        # In float32, whatever the model computes in: sums of 30,000 exponentials.
        mlm_loss = F.cross_entropy(mlm_logits_MV.float(), tensors["masked_labels"])
        nsp_loss = F.cross_entropy(nsp_logits_B2.float(), tensors["next_sentence_labels"])
        parts = {
            "mlm_loss": mlm_loss.detach(),
            "nsp_loss": nsp_loss.detach(),
            "mlm_accuracy": _accuracy(mlm_logits_MV, tensors["masked_labels"]),
            "nsp_accuracy": _accuracy(nsp_logits_B2, tensors["next_sentence_labels"]),
        }
        return mlm_loss + nsp_loss, parts

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """Score the model on held-out documents, with sequences of the first phase.

        Args:
            model: BertForPreTraining, in eval mode.

        Returns:
            "mlm_loss", "mlm_accuracy" and "nsp_accuracy", and what needs no model:
            "unigram_accuracy" (always the most frequent target), "nsp_majority_accuracy" (always
            the more frequent class; above 0.5, since a chunk of one sentence has no next one) and
            "num_sequences". Empty where fewer than two documents are held out.
        """
        if len(self.data.held_out) < 2:
            return {}
        device = next(model.parameters()).device
        totals: dict[str, float] = {}
        targets: list[Tensor] = []
        num_random = num_sequences = 0
        with torch.inference_mode():
            for batch in self._held_out_batches():
                tensors = {name: tensor.to(device) for name, tensor in batch.tensors.items()}
                _, parts = self.loss(model, tensors)
                count = len(batch.tensors["next_sentence_labels"])
                masked = len(batch.tensors["masked_labels"])
                for name in ("mlm_loss", "mlm_accuracy", "nsp_accuracy"):
                    weight = count if name.startswith("nsp") else masked
                    totals[name] = totals.get(name, 0.0) + weight * float(parts[name])
                targets.append(batch.tensors["masked_labels"])
                num_random += int(batch.tensors["next_sentence_labels"].sum())
                num_sequences += count
        labels = torch.cat(targets)
        return {
            "mlm_loss": totals["mlm_loss"] / len(labels),
            "mlm_accuracy": totals["mlm_accuracy"] / len(labels),
            "nsp_accuracy": totals["nsp_accuracy"] / num_sequences,
            "unigram_accuracy": int(torch.bincount(labels).max()) / len(labels),
            "nsp_majority_accuracy": max(num_random, num_sequences - num_random) / num_sequences,
            "num_sequences": num_sequences,
        }

    def _held_out_batches(self) -> Iterator[MicroBatch]:
        length = self.phases[0].max_seq_length
        pairs = make_pairs(
            self.data.corpus,
            self.data.held_out,
            max_seq_length=length,
            seed=_HELD_OUT_SEED,
            epoch=0,
        )
        rng = np.random.default_rng(_HELD_OUT_SEED)
        rows = rng.permutation(len(pairs))[: self._max_held_out_sequences]
        rows = rows[np.argsort(pairs.lengths[rows], kind="stable")]
        for index, start in enumerate(range(0, len(rows), _HELD_OUT_BATCH_SIZE)):
            yield self.data.micro_batch(
                pairs,
                rows[start : start + _HELD_OUT_BATCH_SIZE],
                max_seq_length=length,
                seed=_HELD_OUT_SEED,
                index=index,
            )

    def save(self, model: nn.Module, directory: Path) -> None:
        """Write model, configuration and tokenizer as a checkpoint, whole or not at all.

        Args:
            model: The plain BertForPreTraining.
            directory: The checkpoint.

        Raises:
            CheckpointError: The directory cannot be written.
        """
        assert isinstance(model, BertForPreTraining)
        save_checkpoint(directory, model, self.config, tokenizer_files=self._tokenizer_files)


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.detach().argmax(dim=-1) == labels).float().mean()


def make_pretraining(
    corpus: Sequence[Path],
    config: BertConfig,
    tokenizer_files: Mapping[str, bytes],
    work_dir: Path,
    *,
    max_seq_length: int = 128,
    batch_size: int = 32,
    seed: int = 0,
    whole_word_masking: bool = False,
    mlm_probability: float = MASKED_SHARE,
    initialization: str = "random",
    held_out_fraction: float = 0.01,
    max_held_out_sequences: int = 1024,
    phases: Sequence[Phase] | None = None,
) -> tuple[BertForPreTraining, PretrainingObjective]:
    """Make a fresh model and what it is trained on.

    Args:
        corpus: Text files, plain or .gz, in the form that train.data.text reads.
        config: The architecture.
        tokenizer_files: The tokenizer, contents by name.
        work_dir: Where the tokenized corpus is cached.
        max_seq_length: Most tokens of a sequence.
        batch_size: Sequences of a micro-batch.
        seed: Decides on weights, instances, their order and masks.
        whole_word_masking: Whether the pieces of a word are masked together.
        mlm_probability: Share of the tokens that are masked in training.
        initialization: "random", the paper's, or "local" (train.optim.initialization).
        held_out_fraction: The share of documents to score on, from 0 to less than 1.
        max_held_out_sequences: Most sequences that a score is taken from.
        phases: Instead of max_seq_length and batch_size, for runs with several.

    Returns:
        The model, float32, on the CPU, in training mode; and the objective.

    Raises:
        InputError: A file cannot be read, is not UTF-8 or holds too little text.
        ConfigError: The architecture cannot be pretrained, or a value is out of its range.
        CheckpointError: There is no usable tokenizer in tokenizer_files.
    """
    _check_values(config, initialization, held_out_fraction)
    phases = phases or (Phase(max_seq_length=max_seq_length, batch_size=batch_size),)
    check_phases(phases, config)
    vocab = tokenizer_backend(tokenizer_files).get_vocab(with_added_tokens=True)
    _check_vocabulary(vocab, config)
    _check_masking(mlm_probability)
    text = prepare_corpus(corpus, tokenizer_files, work_dir)
    print(f"corpus: {text.report.summary()}", file=sys.stderr)
    objective = PretrainingObjective(
        divide(text, vocab, held_out_fraction, whole_words=whole_word_masking),
        config=config,
        tokenizer_files=tokenizer_files,
        phases=phases,
        seed=seed,
        mlm_probability=mlm_probability,
        max_held_out_sequences=max_held_out_sequences,
    )
    return _fresh_model(config, initialization, seed), objective


def _check_masking(mlm_probability: float) -> None:
    if not 0.0 < mlm_probability <= _MOST_MASKED:
        raise ConfigError(
            f"mlm_probability: got {mlm_probability}, want above 0, at most {_MOST_MASKED}"
        )


def _fresh_model(config: BertConfig, initialization: str, seed: int) -> BertForPreTraining:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertForPreTraining(config)
    if initialization == "local":
        initialize_local(model.bert, config.initializer_range)
    return model


def _check_architecture(config: BertConfig) -> None:
    check_has_task(config.model_type, PretrainingObjective.name)
    if config.num_token_types < 2:
        raise ConfigError(
            f"type_vocab_size: got {config.type_vocab_size}, want at least 2 for pretraining, "
            "where tokens of the second segment are of type 1"
        )


def _check_vocabulary(vocab: Mapping[str, int], config: BertConfig) -> None:
    num_ids = 1 + max(vocab.values())
    if num_ids > config.vocab_size:
        raise ConfigError(
            f"vocab_size: got a tokenizer of {num_ids} ids, want at most the model's "
            f"{config.vocab_size}"
        )


def _check_values(config: BertConfig, initialization: str, held_out_fraction: float) -> None:
    _check_architecture(config)
    if initialization not in INITIALIZATIONS:
        raise ConfigError(
            f"initialization: got {initialization!r}, want one of {', '.join(INITIALIZATIONS)}"
        )
    if initialization == "local" and config.initializer_range == 0.0:
        raise ConfigError(
            "initialization: local scales random weights, and initializer_range is 0; want it "
            "above 0, or initialization random"
        )
    if not 0 <= held_out_fraction < 1:
        raise ConfigError(f"held_out_fraction: got {held_out_fraction}, want from 0 to below 1")
