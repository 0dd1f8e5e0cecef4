"""Windows -> batches: which go together, one behind the other without padding, and back.

The packed form is what engines are given. Engines that compute on rectangles use pad and unpad.

Shapes: B sequences, S padded length, T packed tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bert_rt.errors import ArtifactFormatError, InputTooLongError
from bert_rt.types import PER_TOKEN, FloatArray, IntArray, Outputs, PackedBatch, TokenSequence

__all__ = ["pack", "pad", "plan_batches", "unpack", "unpad", "unpad_outputs"]

ScalarT = TypeVar("ScalarT", bound=np.generic)


def pack(
    features: Sequence[TokenSequence], *, max_tokens: int, is_all_read: bool = True
) -> PackedBatch:
    """Concatenate features into one batch without padding.

    Args:
        features: Sequences or windows in request order, at least one.
        max_tokens: Budget of the batch, in tokens.
        is_all_read: False where of every window only the logits in its logit_range are read: the
            batch then says so to the engine.

    Returns:
        A batch with input_ids of shape (T,), int32, and cu_seqlens of shape (B + 1,), int32,
        where cu_seqlens[0] == 0 and cu_seqlens[B] == T <= max_tokens.

    Raises:
        InputTooLongError: The features have more than max_tokens tokens together.

    Source: cumulative lengths as in FlashAttention's variable-length interface, arXiv:2205.14135.
    """
    assert features, "pack: no features"
    lengths = [feature.num_tokens for feature in features]
    if sum(lengths) > max_tokens:
        raise InputTooLongError(
            f"features: got {sum(lengths)} tokens in {len(lengths)} windows, the longest of "
            f"{max(lengths)}, want at most max_tokens = {max_tokens}"
        )
    cu_seqlens: IntArray = np.array([0, *accumulate(lengths)], np.int32)
    logit_ranges: IntArray | None = None
    if not is_all_read:
        ranges = [feature.logit_range for feature in features]
        if any(end - begin < n for (begin, end), n in zip(ranges, lengths, strict=True)):
            logit_ranges = np.array(ranges, np.int32)
    options = tuple(feature.options for feature in features)
    return PackedBatch(
        input_ids=np.concatenate([feature.input_ids for feature in features]),
        token_type_ids=np.concatenate([feature.token_type_ids for feature in features]),
        cu_seqlens=cu_seqlens,
        max_seqlen=max(lengths),
        logit_ranges=logit_ranges,
        options=options if any(each is not None for each in options) else None,
    )


def unpack(array_T: NDArray[ScalarT], cu_seqlens: IntArray) -> list[NDArray[ScalarT]]:
    """Split what belongs to the tokens of a batch into its sequences.

    Args:
        array_T: Shape (T,) or (T, ...), any dtype.
        cu_seqlens: Cumulative lengths of shape (B + 1,), int32.

    Returns:
        B views of array_T; the b-th has shape (cu_seqlens[b + 1] - cu_seqlens[b], ...).
    """
    assert len(array_T) == cu_seqlens[-1], "unpack: array and cu_seqlens differ in length"
    return [array_T[start:end] for start, end in pairwise(cu_seqlens.tolist())]


def pad(
    batch: PackedBatch, pad_id: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Lay a batch out as rectangles, for engines that need padding.

    Args:
        batch: The packed sequences.
        pad_id: Token id that fills the rows up.

    Returns:
        input_ids, attention_mask (1 on tokens, 0 on padding) and token_type_ids (0 on padding),
        each of shape (B, S) with S = batch.max_seqlen, int64 as in the artifact's ONNX inputs.
    """
    is_token_BS = _is_token(batch.cu_seqlens)
    input_ids_BS = np.full(is_token_BS.shape, pad_id, np.int64)
    input_ids_BS[is_token_BS] = batch.input_ids
    token_type_ids_BS = np.zeros(is_token_BS.shape, np.int64)
    token_type_ids_BS[is_token_BS] = batch.token_type_ids
    return input_ids_BS, is_token_BS.astype(np.int64), token_type_ids_BS


def unpad(array_BS: NDArray[ScalarT], cu_seqlens: IntArray) -> NDArray[ScalarT]:
    """Drop the padding again.

    Args:
        array_BS: Shape (B, S) or (B, S, ...), any dtype, S the longest sequence's length.
        cu_seqlens: Cumulative lengths of shape (B + 1,), int32.

    Returns:
        A new array of shape (T,) or (T, ...), of the same dtype.
    """
    return array_BS[_is_token(cu_seqlens)]


def unpad_outputs(
    arrays: Mapping[str, FloatArray], kinds: Mapping[str, str], batch: PackedBatch
) -> Outputs:
    """Drop the padding of everything that a model gave for a batch.

    Args:
        arrays: By name: of shape (B, S, ...) per token, (B, ...) per sequence, float32.
        kinds: Name to PER_TOKEN or PER_SEQUENCE, of the outputs that are wanted.
        batch: What was computed.

    Returns:
        New arrays, float32, in the order of kinds: of shape (T, ...) per token, (B, ...) per
        sequence.

    Raises:
        ArtifactFormatError: An array has another shape than its kind says.
    """
    outputs = {}
    for name, kind in kinds.items():
        array = arrays[name]
        want = (batch.num_sequences, batch.max_seqlen)[: 2 if kind == PER_TOKEN else 1]
        if array.shape[: len(want)] != want:
            raise ArtifactFormatError(
                f"manifest.models.model.outputs.{name}: got {kind!r}, and the graph gives an array "
                f"of shape {array.shape} for a batch of {batch.num_sequences} sequences and "
                f"{batch.max_seqlen} tokens; want one row a {kind}"
            )
        is_padded = kind == PER_TOKEN
        outputs[name] = unpad(array, batch.cu_seqlens) if is_padded else np.array(array, np.float32)
    return outputs


def _is_token(cu_seqlens: IntArray) -> NDArray[np.bool_]:
    """Return shape (B, S), bool: True on tokens, False on padding."""
    lengths = np.diff(cu_seqlens)
    is_token: NDArray[np.bool_] = np.arange(lengths.max()) < lengths[:, None]
    return is_token


def plan_batches(
    lengths: Sequence[int],
    *,
    max_tokens: int,
    is_packed: bool,
    max_sequences: int | None = None,
) -> list[list[int]]:
    """Group sequences into batches that keep a token budget.

    Args:
        lengths: Tokens of every sequence.
        max_tokens: Budget of a batch; padding counts for engines that pad.
        is_packed: Whether the engine computes without padding (EngineInfo.is_packed).
        max_sequences: Most sequences of a batch, or None for no limit.

    Returns:
        Indices into lengths, every one once. For packed engines in the order given; for padded
        ones longest first (equal lengths in the order given), so that batches are of like lengths
        and little is padded. The same arguments always give the same plan.

    Raises:
        InputTooLongError: A single sequence is longer than max_tokens.
    """
    order = list(range(len(lengths)))
    if not is_packed:
        order.sort(key=lambda index: -lengths[index])
    batches: list[list[int]] = []
    cost = 0
    for index in order:
        length = lengths[index]
        if length > max_tokens:
            raise InputTooLongError(
                f"lengths[{index}]: got {length} tokens, want at most max_tokens = {max_tokens}"
            )
        # Longest first: the first sequence of a padded batch is its width.
        share = length if is_packed or not batches else lengths[batches[-1][0]]
        is_full = max_sequences is not None and bool(batches) and len(batches[-1]) >= max_sequences
        if not batches or is_full or cost + share > max_tokens:
            batches.append([index])
            cost = length
        else:
            batches[-1].append(index)
            cost += share
    return batches
