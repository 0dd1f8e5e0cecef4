"""Are the two graphs of an encoder-decoder the same functions as the PyTorch model?

Shapes: as in compile.graph.seq2seq_modules.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from bert_rt.engines.onnxruntime import open_session
from bert_rt.engines.threads import available_cpus
from bert_rt.model.encoder_decoder import EncoderDecoder
from bert_rt.support.progress import Progress
from bert_rt.support.seq2seq import (
    ATTENTION_MASK,
    INPUT_IDS,
    LOG_PROBS,
    LOGITS,
    PAST_MASK,
    POSITION_IDS,
    SOURCE_MASK,
    cross_names,
    past_names,
    present_names,
)
from compile.graph.parity import MAX_LOGIT_ERROR, check_close
from compile.graph.seq2seq_modules import DecoderStep, SourceEncoder

__all__ = ["NUM_SEQ2SEQ_SHAPES", "check_seq2seq_parity"]

NUM_SEQ2SEQ_SHAPES = 16
# Layers enlarge the rounding of single tokens among random ones: there PyTorch itself is up to 1e-3
# away from what it gives in float64. Graphs are held against float64, and may be so many times as
# far away as PyTorch's float32 of the same inputs, if that is more than MAX_LOGIT_ERROR.
_MAX_ROUNDING = 4.0
# Of keys and values, of which logits are made.
_MAX_STATE_ERROR = 1e-2
_MAX_SOURCES = 5
_MAX_BEAMS = 4
_MAX_STEPS = 6


def check_seq2seq_parity(
    encoder: ir.Model, decoder: ir.Model, model: EncoderDecoder, *, seed: int, progress: Progress
) -> dict[str, float]:
    """Compare graphs with the model in float64: random sources, masks, and walks through beams.

    Args:
        encoder: The fused float graph of the encoder.
        decoder: That of a step.
        model: The model that they were traced from, in eval mode.
        seed: Of the inputs.
        progress: Advanced at every shape.

    Returns:
        "max_abs_error" over all logits, "num_shapes" and the "limit" that it was held against, the
        greatest of all shapes.

    Raises:
        ParityError: An output differs by more than the limit, or is not finite.
    """
    random = np.random.default_rng(seed)
    graphs = _Graphs(encoder, decoder, model)
    found = []
    for index in range(NUM_SEQ2SEQ_SHAPES):
        # The corners first: one source or many, as short and as long as they may be.
        length = {0: 1, 1: model.config.max_source_length}.get(
            index, int(random.integers(1, model.config.max_source_length + 1))
        )
        sources = 1 if index == 0 else int(random.integers(1, _MAX_SOURCES + 1))
        feeds = _sources(random, model, sources, length)
        cross = graphs.encode(feeds)
        found.append(graphs.walk(random, feeds, cross))
        past = {0: 0, 1: model.config.max_target_length - 1}.get(
            index, int(random.integers(0, model.config.max_target_length))
        )
        found.append(graphs.step(random, feeds, cross, past))
        progress.advance(1)
    worst, limit = (max(values) for values in zip(*found, strict=True))
    return {"max_abs_error": worst, "num_shapes": NUM_SEQ2SEQ_SHAPES, "limit": limit}


class _Graphs:
    """Both graphs beside their model."""

    def __init__(self, encoder: ir.Model, decoder: ir.Model, model: EncoderDecoder) -> None:
        self._encoder, self._decoder = (
            open_session(ir.to_proto(part).SerializeToString(), num_threads=available_cpus())
            for part in (encoder, decoder)
        )
        self._model, self._exact = model, copy.deepcopy(model).double()
        config = model.config.decoder
        self._vocab_size, self._width = config.vocab_size, config.hidden_size
        self._num_layers, self._num_heads = config.num_hidden_layers, config.num_attention_heads

    def encode(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Return cross attention's keys and values, when they are PyTorch's."""
        names = cross_names(self._num_layers)
        got = self._encoder.run(list(names), dict(feeds))
        tensors = (torch.from_numpy(feeds[name]) for name in (INPUT_IDS, ATTENTION_MASK))
        with torch.inference_mode():
            wanted = SourceEncoder(self._model)(*tensors)
        where = f"of {feeds[INPUT_IDS].shape} source tokens"
        for name, array, tensor in zip(names, got, wanted, strict=True):
            check_close(name, array, tensor, where, limit=_MAX_STATE_ERROR)
        return dict(zip(names, got, strict=True))

    def walk(
        self, random: Any, feeds: Mapping[str, Any], cross: Mapping[str, Any]
    ) -> tuple[float, float]:
        """Take steps in which rows continue others, and compare with whole targets."""
        mask_BS = feeds[ATTENTION_MASK]
        num_sources, num_beams = len(mask_BS), int(random.integers(1, _MAX_BEAMS + 1))
        num_rows = num_sources * num_beams
        empty = np.zeros((num_sources, 0, self._width), np.float32)
        past = dict.fromkeys(past_names(self._num_layers), self._by_head(empty))
        targets = np.zeros((num_rows, 0), np.int64)
        # Which tokens of its source's store each row has.
        seen_RP = np.zeros((num_rows, 0), np.int64)
        own_RQ = np.tile(np.eye(num_beams, dtype=np.int64), (num_sources, 1))
        first_B1 = np.arange(num_sources)[:, None] * num_beams
        num_steps = min(_MAX_STEPS, self._model.config.max_target_length)
        for step in range(num_steps):
            rows = (first_B1 + random.integers(0, num_beams, (num_sources, num_beams))).ravel()
            tokens = random.integers(0, self._vocab_size, (num_sources, num_beams))
            targets = np.concatenate([targets[rows], tokens.reshape(-1, 1)], axis=1)
            seen_BQP = seen_RP[rows].reshape(*tokens.shape, -1)
            given = self._run(past, cross, mask_BS, tokens, np.full_like(tokens, step), seen_BQP)
            past = {name: given[p] for name, p in zip(past, self._present, strict=True)}
            seen_RP = np.concatenate([seen_RP[rows], own_RQ], axis=1)
        ids, mask = torch.from_numpy(feeds[INPUT_IDS]), torch.from_numpy(mask_BS)

        def by(model: EncoderDecoder) -> Tensor:
            last = model.decode(torch.from_numpy(targets), model.encode(ids, mask), mask)[:, -1]
            return last.reshape(num_sources, num_beams, -1)

        with torch.inference_mode():
            wanted = by(self._model), by(self._exact)
        where = f"after {num_steps} steps of {num_sources} sources with {num_beams} rows"
        return self._check_scores(given, wanted, where)

    def step(
        self, random: Any, feeds: Mapping[str, Any], cross: Mapping[str, Any], num_past: int
    ) -> tuple[float, float]:
        """Take one step behind any past, parts of which are not looked at."""
        mask_BS = feeds[ATTENTION_MASK]
        num_sources, num_beams = len(mask_BS), int(random.integers(1, _MAX_BEAMS + 1))
        shape = (num_sources, num_beams)
        past = {
            name: random.standard_normal((num_sources, num_past, self._width), np.float32)
            for name in past_names(self._num_layers)
        }
        tokens = random.integers(0, self._vocab_size, shape)
        positions = random.integers(0, self._model.config.max_target_length, shape)
        past_mask = random.integers(0, 2, (*shape, num_past))
        by_head = {name: self._by_head(array) for name, array in past.items()}
        given = self._run(by_head, cross, mask_BS, tokens, positions, past_mask)
        arrays = (tokens, positions, past_mask, mask_BS)

        def by(model: EncoderDecoder) -> tuple[Tensor, ...]:
            dtype = next(model.parameters()).dtype
            states = (
                [torch.from_numpy(x).to(dtype) for x in kept.values()] for kept in (cross, past)
            )
            step = DecoderStep(model)
            made: tuple[Tensor, ...] = step(*(torch.from_numpy(array) for array in arrays), *states)
            return made

        with torch.inference_mode():
            (plain, *_), (exact, _, *made) = by(self._model), by(self._exact)
        where = f"behind {num_past} tokens of {num_sources} sources with {num_beams} rows"
        for name, array in zip(self._present, made, strict=True):
            check_close(name, given[name], self._by_head(array), where, limit=_MAX_STATE_ERROR)
        return self._check_scores(given, (plain, exact), where)

    @staticmethod
    def _check_scores(
        given: Mapping[str, Any], wanted: tuple[Tensor, Tensor], where: str
    ) -> tuple[float, float]:
        """Compare with PyTorch's float32 and float64; return the error, and its limit."""
        # Log probabilities are held against the graph's own logits.
        log_probs = torch.from_numpy(given[LOGITS]).log_softmax(-1)
        check_close(LOG_PROBS, given[LOG_PROBS], log_probs, where)
        plain, exact = wanted
        limit = max(MAX_LOGIT_ERROR, _MAX_ROUNDING * float((plain - exact).abs().max()))
        return check_close(LOGITS, given[LOGITS], exact, where, limit=limit), limit

    def _by_head(self, array: Any) -> Any:
        """Lay a store out as the graph has it: (B, P, D) as (B, N, P, H)."""
        heads = self._num_heads, self._width // self._num_heads
        return array.reshape(*array.shape[:2], *heads).swapaxes(1, 2)

    @property
    def _present(self) -> tuple[str, ...]:
        return present_names(self._num_layers)

    def _run(
        self,
        past: Mapping[str, Any],
        cross: Mapping[str, Any],
        mask_BS: Any,
        tokens: Any,
        positions: Any,
        past_mask: Any,
    ) -> dict[str, Any]:
        feeds = {
            **past,
            **cross,
            SOURCE_MASK: mask_BS,
            INPUT_IDS: tokens,
            POSITION_IDS: positions,
            PAST_MASK: past_mask,
        }
        names = [LOGITS, LOG_PROBS, *self._present]
        return dict(zip(names, self._decoder.run(names, feeds), strict=True))


def _sources(
    random: Any, model: EncoderDecoder, num_sources: int, length: int
) -> dict[str, np.ndarray]:
    shape = (num_sources, length)
    mask = random.integers(0, 2, shape)
    # Some rows attend to everything, and every row at least to its first token.
    mask[::3] = 1
    mask[:, 0] = 1
    ids = random.integers(0, model.config.encoder.vocab_size, shape)
    return {INPUT_IDS: ids, ATTENTION_MASK: mask}
