"""Training for translation: pairs -> batches of about as many tokens -> smoothed cross-entropy.

The decoder reads the start token and the translation, and learns at each of them the next token,
the end of the translation at last. Nothing else of the two texts is learnt.

Shapes: B pairs, S padded length of texts, T padded length of translations, V target vocabulary.

Source: Vaswani et al. 2017, arXiv:1706.03762, section 5 (batches by tokens, label smoothing).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from bert_rt.engines.packing import plan_batches
from bert_rt.errors import ConfigError, InputError
from bert_rt.model.encoder_decoder import EncoderDecoder
from bert_rt.model.encoder_decoder_checkpoint import save_encoder_decoder
from bert_rt.tasks.limits import WritingLimits
from bert_rt.tasks.translation.pairs import SentencePair, read_pairs
from bert_rt.tasks.translation.scores import score_translations
from train.data.batching import Padding, TokenBatches
from train.loop.objective import MicroBatch
from train.tasks.base import Setup
from train.tasks.translation.start import Start, find_start
from train.tasks.translation.task import Options
from train.tasks.translation.translating import translate

__all__ = ["TranslatingObjective", "make_translating"]

_INPUTS = ("input_ids", "attention_mask", "decoder_input_ids")
_EVALUATION_TOKENS = 8192
_IGNORED = -100  # as cross_entropy has it
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Encoded:
    """A pair as the model reads it.

    Attributes:
        pair: The texts.
        source: Its tokens with the special ones, shape (source length,), int64.
        target: Start token, tokens of the translation and end token, int64.
    """

    pair: SentencePair
    source: NDArray[np.int64]
    target: NDArray[np.int64]


class TranslatingObjective:
    """The objective of training for translation; see train.loop.objective.Objective.

    Attributes:
        tokenizers: The source's and the target's.
    """

    name = "translation"
    best_metric = "bleu"

    def __init__(
        self,
        start: Start,
        training: Sequence[SentencePair],
        held_out: Sequence[SentencePair],
        setup: Setup,
    ) -> None:
        """Hold the data.

        Args:
            start: The model and its tokenizers.
            training: Pairs to train on.
            held_out: Pairs to evaluate on; empty for no evaluation.
            setup: What the run is made of: its limits, options and sizes of batches.

        Raises:
            InputError: All training pairs are too long.
            ConfigError: The limits are beyond the model's.
        """
        self._start = start
        self._config = start.model.config
        self._options: Options = setup.options
        _check_limits(setup.limits, start.model)
        self.padding = Padding(max(self._config.max_source_length, self._config.max_target_length))
        self.tokenizers = start.tokenizers
        self._limits = limits = setup.limits
        self._has_said_signatures = False
        encoded = self._encode(training)
        self._training = [row for row in encoded if _fits(row, limits)]
        if not self._training:
            raise InputError(
                f"train_file: got no pair of at most {limits.max_seq_length} and "
                f"{limits.max_target_length} tokens (max_seq_length, max_target_length), want some"
            )
        if len(self._training) < len(encoded):
            _log.warning(
                "left out %d of %d training pairs: longer than %d and %d tokens "
                "(max_seq_length, max_target_length)",
                *(len(encoded) - len(self._training), len(encoded)),
                *(limits.max_seq_length, limits.max_target_length),
            )
        self._held_out = [_cut(row, limits) for row in self._encode(held_out)]
        self._batches = TokenBatches(
            [(len(row.source), len(row.target)) for row in self._training],
            max_tokens=self._options.batch_tokens,
            max_examples=setup.batch_size,
            seed=setup.seed,
        )
        self.num_micro_batches = self._batches.num_batches
        self.trivial_loss: float | None = self._trivial_loss()

    def micro_batch(self, index: int) -> MicroBatch:
        """Make the index-th micro-batch, padded to its longest text and translation."""
        rows = [self._training[i] for i in self._batches[index]]
        tensors = self._tensors(rows)
        num_tokens = sum(len(row.source) + len(row.target) - 1 for row in rows)
        num_positions = tensors["input_ids"].numel() + tensors["decoder_input_ids"].numel()
        return MicroBatch(tensors, num_tokens, num_positions)

    def loss(
        self, model: nn.Module, tensors: Mapping[str, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Compute the mean smoothed cross-entropy of the translations' tokens."""
        logits_BTV = model(*(tensors[name] for name in _INPUTS)).float()
        loss = F.cross_entropy(
            logits_BTV.flatten(0, 1),
            tensors["labels"].flatten(),
            ignore_index=_IGNORED,
            label_smoothing=self._options.label_smoothing,
        )
        return loss, {}

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """Score the held-out pairs.

        Args:
            model: The plain model.

        Returns:
            "bleu" and "chrf" of what the model makes of the texts, "loss", the mean cross-entropy
            of the translations' tokens in nats without smoothing, and "token_accuracy" in percent,
            where the tokens before are the right ones.
        """
        if not self._held_out:
            return {}
        return {
            **self._score_translations(cast("EncoderDecoder", model)),
            **self._score_tokens(model),
        }

    def _score_translations(self, model: EncoderDecoder) -> dict[str, float]:
        sources = [row.source for row in self._held_out]
        found = translate(
            model,
            sources,
            num_beams=self._options.num_beams,
            length_penalty=self._options.length_penalty,
            max_length=self._limits.max_target_length,
        )
        _, tokenizer = self.tokenizers
        texts = [tokenizer.decode(tokens, skip_special_tokens=True) for tokens in found]
        scores = score_translations(texts, [row.pair.target for row in self._held_out])
        if not self._has_said_signatures:
            print(f"BLEU {scores.bleu_signature}, chrF {scores.chrf_signature}")
            self._has_said_signatures = True
        return {"bleu": scores.bleu, "chrf": scores.chrf}

    def _score_tokens(self, model: nn.Module) -> dict[str, float]:
        device = next(model.parameters()).device
        total = hits = count = 0.0
        lengths = [len(row.source) + len(row.target) for row in self._held_out]
        for batch in plan_batches(lengths, max_tokens=_EVALUATION_TOKENS, is_packed=False):
            tensors = self._tensors([self._held_out[i] for i in batch])
            tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
            logits_NV = model(*(tensors[name] for name in _INPUTS)).float().flatten(0, 1)
            labels_N = tensors["labels"].flatten()
            total += float(F.cross_entropy(logits_NV, labels_N, reduction="sum"))
            hits += int((logits_NV.argmax(-1) == labels_N).sum())
            count += int((labels_N != _IGNORED).sum())
        return {"loss": total / count, "token_accuracy": 100 * hits / count}

    def save(self, model: nn.Module, directory: Path) -> None:
        """Write a checkpoint in the layout of Hugging Face's EncoderDecoderModel."""
        start = self._start
        is_joint = start.source_files == start.target_files
        save_encoder_decoder(
            directory,
            cast("EncoderDecoder", model),
            tokenizer_files=start.source_files,
            decoder_tokenizer_files=None if is_joint else start.target_files,
            generation_config=self._generation_config(),
            extra=start.raw_config,
        )

    def _generation_config(self) -> dict[str, Any]:
        """Return what generation does by default: as the held-out texts are translated."""
        values = {
            "num_beams": self._options.num_beams,
            "length_penalty": self._options.length_penalty,
            "max_length": self._limits.max_target_length,
        }
        return {**values, **self._start.generation_config}

    def _encode(self, pairs: Sequence[SentencePair]) -> list[_Encoded]:
        source, target = self.tokenizers
        config = self._config
        sources = source.encode_batch([pair.source for pair in pairs])
        targets = target.encode_batch([pair.target for pair in pairs])
        return [
            _Encoded(
                pair,
                np.array([source.cls_id, *text.input_ids, source.sep_id], np.int64),
                np.array(
                    [config.decoder_start_token_id, *translation.input_ids, config.eos_token_id],
                    np.int64,
                ),
            )
            for pair, text, translation in zip(pairs, sources, targets, strict=True)
        ]

    def _tensors(self, rows: Sequence[_Encoded]) -> dict[str, Tensor]:
        """Pad pairs: input_ids and attention_mask of shape (B, S), the others (B, T), int64."""
        sources = [row.source for row in rows]
        lay_out = self.padding.rectangle
        arrays = {
            "input_ids": lay_out(sources, self._config.encoder.pad_token_id),
            "attention_mask": lay_out([np.ones_like(source) for source in sources], 0),
            "decoder_input_ids": lay_out(
                [row.target[:-1] for row in rows], self._config.pad_token_id
            ),
            "labels": lay_out([row.target[1:] for row in rows], _IGNORED),
        }
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _trivial_loss(self) -> float:
        """Return the smoothed loss of who knows only how frequent each token is."""
        size = self._config.decoder.vocab_size
        labels = np.concatenate([row.target[1:] for row in self._training])
        share = self._options.label_smoothing
        shares = (1 - share) * np.bincount(labels, minlength=size) / len(labels) + share / size
        shares = shares[shares > 0]
        return float(-(shares * np.log(shares)).sum())


def _check_limits(limits: WritingLimits, model: EncoderDecoder) -> None:
    for name, longest in (
        ("max_seq_length", model.config.max_source_length),
        ("max_target_length", model.config.max_target_length),
    ):
        got = getattr(limits, name)
        if got > longest:
            raise ConfigError(f"{name}: got {got}, want 8 to the model's {longest}")


def _fits(row: _Encoded, limits: WritingLimits) -> bool:
    return len(row.source) <= limits.max_seq_length and len(row.target) <= limits.max_target_length


def _cut(row: _Encoded, limits: WritingLimits) -> _Encoded:
    """Cut what is too long; its special tokens stay."""
    source, target = (
        tokens if len(tokens) <= limit else np.concatenate([tokens[: limit - 1], tokens[-1:]])
        for tokens, limit in (
            (row.source, limits.max_seq_length),
            (row.target, limits.max_target_length),
        )
    )
    return _Encoded(row.pair, source, target)


def make_translating(setup: Setup) -> tuple[nn.Module, TranslatingObjective]:
    """Load or make a model, and load its data.

    Args:
        setup: What the run is made of.

    Returns:
        The model and its objective.

    Raises:
        InputError: A file is damaged, or all of its pairs are too long.
        CheckpointError: The checkpoint cannot be read.
        ConfigError: The limits are beyond the model's, or a new vocabulary is too small.
    """

    def read(files: Sequence[Path]) -> list[SentencePair]:
        return [
            row for file in files for row in read_pairs(file, setup.layout, dropped=setup.dropped)
        ]

    training = read(setup.train_files)
    held_out = read([setup.validation_file] if setup.validation_file else [])
    start = find_start(setup, training)
    return start.model, TranslatingObjective(start, training, held_out, setup)
