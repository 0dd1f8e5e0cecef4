"""The fill-mask pipeline: arguments and results of Transformers 4.x, on torch."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bert_rt.errors import InputError
from bert_rt.pipelines.base import Pipeline, check_int, chunks, is_lazy, reject_unknown
from bert_rt.pipelines.texts import Truncation, check_input, make_input, read_truncation
from bert_rt.types import FloatArray, TokenSequence

if TYPE_CHECKING:
    from bert_rt.pipelines.torch_model import TorchModel

__all__ = ["FillMaskPipeline"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class FillOptions:
    """What a call may ask for.

    Attributes:
        top_k: Tokens wanted for every mask.
        target_ids: The only tokens that count, or None for all of the vocabulary.
        truncation: What happens to texts that are too long.
    """

    top_k: int
    target_ids: tuple[int, ...] | None
    truncation: Truncation


class FillMaskPipeline(Pipeline):
    """Says which tokens may stand in the place of "[MASK]". Thread-safe.

    Attributes:
        task: "fill-mask".
        model: The model.
        tokenizer: The model's tokenizer.
    """

    task = "fill-mask"
    model: TorchModel

    def __init__(self, model: TorchModel, *, batch_size: int = 1, **options: Any) -> None:
        """Take over a model.

        Args:
            model: A masked language model.
            batch_size: Texts that are computed together.
            **options: Defaults of later calls.

        Raises:
            InputError: An option is unknown or out of range.
        """
        super().__init__(model, batch_size)
        unset = Truncation(None, model.max_sequence_length)
        self._defaults = self._options(
            FillOptions(top_k=5, target_ids=None, truncation=unset), options
        )

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Fill the masks of texts.

        Args:
            inputs: A text with at least one "[MASK]", or a list, an iterator or a dataset of them.
            **kwargs: top_k, targets (a token or a list of them), tokenizer_kwargs (truncation and
                max_length), batch_size. num_workers is taken and has no effect.

        Returns:
            For a text (or a list of one) a list of dictionaries of score, token, token_str and
            sequence, best first; a list of such lists where it has several masks; for a list of
            texts a list of that; for an iterator or a dataset an iterator.

        Raises:
            InputError: An argument is unknown or out of range, or a text has no mask, is
                unreadable, or is too long without truncation.
        """
        batch_size = self._batch_size_of(kwargs)
        options = self._options(self._defaults, kwargs)
        if is_lazy(inputs):
            return self._lazily(inputs, lambda items: self._stream(items, options, batch_size))
        is_list = isinstance(inputs, list)
        results = list(self._stream(inputs if is_list else [inputs], options, batch_size))
        return results[0] if len(results) == 1 else results

    def _options(self, defaults: FillOptions, settings: Mapping[str, Any]) -> FillOptions:
        reject_unknown(settings, ("top_k", "targets", "tokenizer_kwargs", "num_workers"))
        options = defaults
        if settings.get("top_k") is not None:
            top_k = check_int("top_k", settings["top_k"], 1, self.tokenizer.vocab_size)
            options = replace(options, top_k=top_k)
        if settings.get("targets") is not None:
            options = replace(options, target_ids=self._target_ids(settings["targets"]))
        if settings.get("tokenizer_kwargs") is not None:
            truncation = read_truncation(settings["tokenizer_kwargs"], self.model)
            options = replace(options, truncation=truncation)
        return options

    def _target_ids(self, targets: Any) -> tuple[int, ...]:
        """Find the tokens of words; a word of several tokens stands for its first."""
        words = [targets] if isinstance(targets, str) else list(targets)
        vocab = self.tokenizer.get_vocab()
        found: dict[int, None] = {}
        for word in words:
            token_id = vocab.get(word)
            if token_id is None:
                ids = self.tokenizer.encode(word, field="targets").input_ids
                if not len(ids):
                    _LOG.warning("targets: %r is left out, it has no token", word)
                    continue
                token_id = int(ids[0])
                name = self.tokenizer.decode([token_id], skip_special_tokens=False)
                _LOG.warning("targets: %r is no token; %r stands for it", word, name)
            found[token_id] = None
        if not found:
            raise InputError(f"targets: got {targets!r}, want at least one token")
        return tuple(sorted(found))

    def _stream(
        self, inputs: Iterable[Any], options: FillOptions, batch_size: int
    ) -> Iterator[Any]:
        index = 0
        for chunk in chunks(inputs, batch_size):
            sequences = []
            for text in chunk:
                place = f"inputs[{index}]"
                index += 1
                item = check_input(text, place)
                sequence = make_input(
                    self.tokenizer, item, options.truncation, place=place, masks=True
                )
                if self.tokenizer.mask_id not in sequence.input_ids:
                    raise InputError(f"{place}: got no {self.tokenizer.mask_token}, want one")
                sequences.append(sequence)
            scores = self.model.vocabulary_scores(sequences)
            for sequence, scores_MV in zip(sequences, scores, strict=True):
                yield self._fill(sequence, scores_MV, options)

    def _fill(self, sequence: TokenSequence, scores_MV: FloatArray, options: FillOptions) -> Any:
        positions = np.flatnonzero(sequence.input_ids == self.tokenizer.mask_id)
        is_single = len(positions) == 1
        rows = []
        for position, scores_V in zip(positions, scores_MV, strict=True):
            row = []
            for token_id in _best(scores_V, options):
                ids = sequence.input_ids.copy()
                ids[position] = token_id
                # Other masks of the text stay visible, and then so do [CLS] and [SEP].
                text = self._decode(ids[ids != self.tokenizer.pad_id].tolist(), is_single)
                row.append(
                    {
                        "score": float(scores_V[token_id]),
                        "token": token_id,
                        "token_str": self._decode([token_id], False),
                        "sequence": text,
                    }
                )
            rows.append(row)
        return rows[0] if is_single else rows

    def _decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)


def _best(scores_V: FloatArray, options: FillOptions) -> list[int]:
    """Return the most probable token ids, best first."""
    if options.target_ids is None:
        candidates = np.argpartition(-scores_V, options.top_k - 1)[: options.top_k]
        candidates.sort()
    else:
        candidates = np.array(options.target_ids)
    order = np.argsort(-scores_V[candidates], kind="stable")
    best: list[int] = candidates[order][: options.top_k].tolist()
    return best
