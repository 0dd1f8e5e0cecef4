"""Models that only torch runs: hidden states, a masked language model's scores, whole targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bert_rt.engines.base import EngineOptions
from bert_rt.engines.forking import lost_in_fork, note_use
from bert_rt.engines.packing import pack, pad
from bert_rt.engines.threads import resolve_num_threads
from bert_rt.errors import EngineUnavailableError
from bert_rt.generation.config import GenerationConfig
from bert_rt.generation.loop import generate
from bert_rt.generation.search import Hypothesis
from bert_rt.model.checkpoint import LoadedModel
from bert_rt.model.encoder import BertModel
from bert_rt.model.encoder_decoder import CachedDecoder
from bert_rt.model.encoder_decoder_checkpoint import LoadedEncoderDecoder
from bert_rt.model.heads import BertForPreTraining
from bert_rt.support.shutdown import native_call
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import FloatArray, TokenSequence

__all__ = ["TorchGenerator", "TorchModel"]


class TorchModel:
    """A checkpoint in float32. Thread-safe.

    Attributes:
        tokenizer: The checkpoint's tokenizer.
        max_sequence_length: Most tokens of a sequence.
        model_max_length: Most tokens of a sequence where the caller does not say.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        tokenizer: Tokenizer,
        model_max_length: int,
        options: EngineOptions,
    ) -> None:
        """Move the model to its device and set torch's threads, for the whole process.

        Args:
            loaded: A BertModel or a BertForPreTraining.
            tokenizer: Its tokenizer.
            model_max_length: Most tokens of a sequence where the caller does not say.
            options: Device and threads.
        """
        note_use("torch")
        torch.set_num_threads(resolve_num_threads(options.num_threads))
        self.tokenizer = tokenizer
        self.max_sequence_length = loaded.config.max_sequence_length
        self.model_max_length = model_max_length
        self._model: Any = loaded.model.to(options.device)
        self._pad_id = loaded.config.pad_token_id
        self._device = options.device

    @torch.inference_mode()
    def hidden_states(self, sequences: Sequence[TokenSequence]) -> list[Tensor]:
        """Compute the last layer's states.

        Args:
            sequences: At least one; computed together, padded to the longest.

        Returns:
            For every sequence a tensor of shape (1, T, D), float32, on the CPU.

        Raises:
            EngineUnavailableError: This process was forked, and torch cannot be used in it.
        """
        assert isinstance(self._model, BertModel)
        _check_process()
        with native_call():
            x_BSD, _ = self._model(*self._inputs(sequences))
            return [
                x_SD[None, : item.num_tokens].cpu()
                for x_SD, item in zip(x_BSD, sequences, strict=True)
            ]

    @torch.inference_mode()
    def vocabulary_scores(self, sequences: Sequence[TokenSequence]) -> list[FloatArray]:
        """Compute what may stand at the masked positions.

        Args:
            sequences: At least one; computed together, padded to the longest.

        Returns:
            For every sequence probabilities of shape (M, V), float32, for its M mask tokens.

        Raises:
            EngineUnavailableError: This process was forked, and torch cannot be used in it.
        """
        assert isinstance(self._model, BertForPreTraining)
        _check_process()
        with native_call():
            inputs = self._inputs(sequences)
            x_BSD, _ = self._model.bert(*inputs)
            is_mask_BS = inputs[0] == self.tokenizer.mask_id
            # Only there: the projection to the vocabulary is most of the work.
            probabilities_MV = self._model.cls.predictions(x_BSD[is_mask_BS]).softmax(dim=-1)
            ends = np.cumsum([int(row.sum()) for row in is_mask_BS])
            return np.split(probabilities_MV.cpu().numpy(), ends[:-1])

    def close(self) -> None:
        """Free the model. Calling it twice is harmless."""
        self._model.to("meta")

    def _inputs(self, sequences: Sequence[TokenSequence]) -> list[Tensor]:
        batch = pack(sequences, max_tokens=sum(item.num_tokens for item in sequences))
        return [torch.from_numpy(array).to(self._device) for array in pad(batch, self._pad_id)]


class TorchGenerator:
    """An encoder-decoder checkpoint in float32. Thread-safe.

    Attributes:
        tokenizer: The source's tokenizer.
        target_tokenizer: The target's tokenizer, which may be the same.
        max_sequence_length: Most tokens of a source.
        model_max_length: Most tokens of a source where the caller does not say.
        max_target_length: Most tokens of a target, the start token included.
        target_vocab_size: Token ids of targets are below it.
        generation_config: What the checkpoint says of generation.
        token_ids: The start, end and padding tokens of targets, by their names in files.
    """

    def __init__(
        self,
        loaded: LoadedEncoderDecoder,
        tokenizer: Tokenizer,
        target_tokenizer: Tokenizer,
        model_max_length: int,
        options: EngineOptions,
    ) -> None:
        """Move the model to its device and set torch's threads, for the whole process.

        Args:
            loaded: The model.
            tokenizer: The source's tokenizer.
            target_tokenizer: The target's tokenizer.
            model_max_length: Most tokens of a source where the caller does not say.
            options: Device and threads.
        """
        note_use("torch")
        torch.set_num_threads(resolve_num_threads(options.num_threads))
        self.tokenizer = tokenizer
        self.target_tokenizer = target_tokenizer
        config = loaded.config
        self.max_sequence_length = config.max_source_length
        self.model_max_length = model_max_length
        self.max_target_length = config.max_target_length
        self.target_vocab_size = config.decoder.vocab_size
        self.generation_config = loaded.generation_config
        names = ("decoder_start_token_id", "eos_token_id", "pad_token_id")
        self.token_ids = {name: getattr(config, name) for name in names}
        self._model = loaded.model.to(options.device)
        self._pad_id = config.encoder.pad_token_id
        self._device = options.device

    def generate(
        self, sequences: Sequence[TokenSequence], config: GenerationConfig
    ) -> list[list[Hypothesis]]:
        """Write targets.

        Args:
            sequences: Sources, at least one; computed together, padded to the longest.
            config: How to search.

        Returns:
            For every source its best targets, best first.

        Raises:
            EngineUnavailableError: This process was forked, and torch cannot be used in it.
        """
        _check_process()
        batch = pack(sequences, max_tokens=sum(item.num_tokens for item in sequences))
        with native_call():
            ids, mask, _ = (torch.from_numpy(x).to(self._device) for x in pad(batch, self._pad_id))
            return generate(CachedDecoder(self._model, ids, mask), len(sequences), config)

    def as_tensor(self, token_ids: Sequence[int], length: int) -> Tensor:
        """Return a target as a tensor, int64, filled up to a length with padding."""
        padding = [self.token_ids["pad_token_id"]] * (length - len(token_ids))
        with native_call():
            return torch.tensor([*token_ids, *padding])

    def close(self) -> None:
        """Free the model. Calling it twice is harmless."""
        self._model.to("meta")


def _check_process() -> None:
    reason = lost_in_fork("torch")
    if reason is not None:
        raise EngineUnavailableError(f"engine: 'torch' cannot run here: {reason}")
