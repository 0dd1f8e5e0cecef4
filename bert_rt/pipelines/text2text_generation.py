"""Pipelines that write texts: arguments and results of Transformers 4.x.

An artifact with a decoder runs on every engine that takes steps, a checkpoint on torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from bert_rt.api import Runtime
from bert_rt.artifact.artifact import MANIFEST_NAME
from bert_rt.engines.base import EngineOptions
from bert_rt.engines.seq2seq.base import Asked
from bert_rt.engines.seq2seq.generating import hypotheses_of
from bert_rt.errors import ConfigError, InputError
from bert_rt.generation.config import GENERATION_FIELDS, GenerationConfig
from bert_rt.model.encoder_decoder_checkpoint import (
    TARGET_DIRECTORY,
    load_encoder_decoder,
    read_target_tokenizer_files,
)
from bert_rt.pipelines.base import Pipeline, chunks, is_lazy
from bert_rt.pipelines.loading import (
    AnyModel,
    check_torch,
    directory_of,
    is_encoder_decoder,
    longest_input,
)
from bert_rt.pipelines.texts import Truncation, check_input, make_input, read_truncation
from bert_rt.tasks.base import CallOptions
from bert_rt.tasks.translation.sources import SourceSequence
from bert_rt.text.tokenization import Tokenizer

if TYPE_CHECKING:
    from bert_rt.generation.search import Hypothesis
    from bert_rt.types import TokenSequence

__all__ = [
    "ArtifactGenerator",
    "GeneratedSummaryPipeline",
    "Generator",
    "Text2TextGenerationPipeline",
    "TranslationPipeline",
    "open_generator",
]

# What the pipelines of Transformers 4.57 do where the checkpoint is silent.
_DEFAULTS = {"num_beams": 4, "max_new_tokens": 256}
_TENSORS, _TEXT = 0, 1  # return_type
# Taken, and without effect: they name what is always so.
_IGNORED = ("num_workers", "return_text", "use_cache")
_LANGUAGES = ("src_lang", "tgt_lang")
# White space that decoders of other tokenizers leave, and what clean_up_tokenization_spaces makes.
_CLEANED = (
    *((f" {mark}", mark) for mark in ".?!,"),
    (" ' ", "'"),
    *((f" {end}", end) for end in ("n't", "'m", "'s", "'ve", "'re")),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class WritingOptions:
    """What a call may ask for.

    Attributes:
        config: How to search.
        truncation: What happens to texts that are too long.
        return_type: 0 for token ids, 1 for texts.
        cleans_up: Whether white space before marks is taken out of the texts.
    """

    config: GenerationConfig
    truncation: Truncation
    return_type: int = _TEXT
    cleans_up: bool = False


class Generator(AnyModel, Protocol):
    """What a pipeline that writes needs of its model.

    Attributes:
        target_tokenizer: The target's tokenizer, which may be the source's.
        max_target_length: Most tokens of a target, the start token included.
        target_vocab_size: Token ids of targets are below it.
        generation_config: What the model says of generation.
        token_ids: The start, end and padding tokens of targets, by their names in files.
    """

    target_tokenizer: Tokenizer
    max_target_length: int
    target_vocab_size: int
    generation_config: dict[str, Any]
    token_ids: dict[str, Any]

    def generate(
        self, sequences: Sequence[TokenSequence], config: GenerationConfig
    ) -> list[list[Hypothesis]]:
        """Write the targets of sources, at least one; for each its best ones, best first."""
        ...

    def as_tensor(self, token_ids: Sequence[int], length: int) -> Any:
        """Return a target as a tensor, int64, filled up to a length with padding."""
        ...


class ArtifactGenerator:
    """An artifact with a decoder: a Generator. Thread-safe."""

    def __init__(self, runtime: Runtime) -> None:
        """Take over a Runtime whose artifact has a decoder."""
        decoder = runtime.manifest.decoder
        assert decoder is not None, "whoever opens this has looked"
        self._runtime = runtime
        self.tokenizer = runtime.session.tokenizer
        self.target_tokenizer = runtime.session.target_tokenizer
        self.max_sequence_length = runtime.manifest.architecture.max_sequence_length
        self.model_max_length = runtime.limits.max_seq_length
        self.max_target_length = decoder.max_target_length
        self.target_vocab_size = decoder.architecture.vocab_size
        search = decoder.generation
        names = [name for name in GENERATION_FIELDS if name != "eos_token_id"]
        ends = list(search.eos_token_ids)
        self.generation_config = {name: getattr(search, name) for name in names} | {
            "eos_token_id": ends
        }
        self.token_ids = {
            "decoder_start_token_id": search.decoder_start_token_id,
            "eos_token_id": ends,
            "pad_token_id": search.pad_token_id,
        }

    def generate(
        self, sequences: Sequence[TokenSequence], config: GenerationConfig
    ) -> list[list[Hypothesis]]:
        """Write targets.

        Args:
            sequences: Sources, at least one.
            config: How to search.

        Returns:
            For every source its best targets, best first.
        """
        sources = [
            SourceSequence(item.input_ids, item.token_type_ids, 0, 0, Asked(config))
            for item in sequences
        ]
        outputs = self._runtime.session.run(sources, CallOptions(limits=self._runtime.limits))
        return [hypotheses_of(each) for each in outputs]

    def as_tensor(self, token_ids: Sequence[int], length: int) -> Any:
        """Return a target as an array of NumPy, int64, filled up with padding."""
        padding = [self.token_ids["pad_token_id"]] * (length - len(token_ids))
        return np.array([*token_ids, *padding], np.int64)

    def close(self) -> None:
        """Close the engine. Calling it twice is harmless."""
        self._runtime.close()


def open_generator(
    pipeline_task: str,
    model: str | os.PathLike[str] | Runtime | None,
    *,
    engine: str,
    options: EngineOptions,
) -> Generator:
    """Open the model of a pipeline that writes texts.

    Args:
        pipeline_task: The pipeline's task, for messages.
        model: An artifact with a decoder, a Runtime of one, or a checkpoint directory of an
            encoder-decoder.
        engine: As in Runtime.load; a checkpoint runs on torch.
        options: Device and threads.

    Returns:
        The model.

    Raises:
        ConfigError: It is no such model, or an option does not go with it.
        ArtifactError: The artifact cannot be used.
        CheckpointError: The checkpoint cannot be used.
        EngineUnavailableError: The engine cannot run here.
    """
    if is_encoder_decoder(model):
        return _open_checkpoint(directory_of(model), engine, options)
    if isinstance(model, Runtime):
        runtime = model
    elif model is not None and (directory_of(model) / MANIFEST_NAME).is_file():
        threads = options.num_threads
        runtime = Runtime.load(model, engine=engine, device=options.device, num_threads=threads)
    else:
        got = repr(model) if model is None else directory_of(model)
        raise ConfigError(
            f"model: got {got}, want for {pipeline_task} an artifact with a decoder, or a "
            "checkpoint directory of an encoder-decoder (config.json: model_type encoder-decoder)"
        )
    if runtime.manifest.decoder is None:
        if runtime is not model:
            runtime.close()
        raise ConfigError(
            f"model: got an artifact for {runtime.manifest.task}, want for {pipeline_task} one "
            "with a decoder"
        )
    return ArtifactGenerator(runtime)


def _open_checkpoint(path: Path, engine: str, options: EngineOptions) -> Generator:
    check_torch(engine, options)
    from bert_rt.pipelines.torch_model import TorchGenerator

    loaded = load_encoder_decoder(path)
    tokenizer = target = Tokenizer.from_directory(path)
    if read_target_tokenizer_files(path):
        target = Tokenizer.from_directory(path / TARGET_DIRECTORY)
    length = longest_input(path, loaded.config.encoder)
    return TorchGenerator(loaded, tokenizer, target, length, options)


class Text2TextGenerationPipeline(Pipeline):
    """Writes a text for each text. Thread-safe.

    Attributes:
        task: The pipeline's task.
        return_name: What the keys of results begin with.
        model: The model.
        tokenizer: The source's tokenizer.
    """

    task = "text2text-generation"
    return_name: ClassVar[str] = "generated"
    model: Generator

    def __init__(self, model: Generator, *, batch_size: int = 1, **options: Any) -> None:
        """Take over a model.

        Args:
            model: A model that writes texts.
            batch_size: Texts that are computed together, padded to the longest.
            **options: Defaults of later calls.

        Raises:
            InputError: An option is unknown or out of range.
            ConfigError: The checkpoint asks for a way of generating that is not done here.
        """
        super().__init__(model, batch_size)
        config = GenerationConfig.from_values(
            model.generation_config, {**model.token_ids, **_DEFAULTS}
        )
        unset = Truncation(None, model.max_sequence_length)
        self._defaults = self._options(WritingOptions(config=config, truncation=unset), options)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Write a text for each text.

        Args:
            inputs: A text, or a list, an iterator or a dataset of texts.
            **kwargs: truncation, return_tensors, return_type, clean_up_tokenization_spaces,
                stop_sequence, batch_size, and how to search: the fields of GenerationConfig, or
                a generation_config that has them. num_workers, return_text and use_cache are
                taken and have no effect; nor have src_lang and tgt_lang of a translation.

        Returns:
            The shapes of Transformers 4.x: for a text a list of a dictionary for each of its
            num_return_sequences; for a list of texts a list of dictionaries, or of lists of them
            where there are several for a text; for an iterator or a dataset an iterator of lists.

        Raises:
            InputError: An argument is unknown or out of range, or a text is empty, unreadable, or
                too long without truncation.
        """
        batch_size = self._batch_size_of(kwargs)
        options = self._options(self._defaults, kwargs)
        if is_lazy(inputs):
            return self._lazily(inputs, lambda items: self._stream(items, options, batch_size))
        if not isinstance(inputs, list):
            return next(self._stream([inputs], options, 1))
        results = list(self._stream(inputs, options, batch_size))
        return [r[0] for r in results] if all(len(r) == 1 for r in results) else results

    def _options(self, defaults: WritingOptions, settings: Mapping[str, Any]) -> WritingOptions:
        given = {n: v for n, v in settings.items() if v is not None and n not in _IGNORED}
        options = defaults
        if "truncation" in given:
            truncation = read_truncation({"truncation": given.pop("truncation")}, self.model)
            options = replace(options, truncation=truncation)
        if "clean_up_tokenization_spaces" in given:
            cleans_up = bool(given.pop("clean_up_tokenization_spaces"))
            options = replace(options, cleans_up=cleans_up)
        if "return_tensors" in given:
            kind = _TENSORS if given.pop("return_tensors") else _TEXT
            options = replace(options, return_type=kind)
        if "return_type" in given:
            kind = given.pop("return_type")
            kind = getattr(kind, "value", kind)
            if kind not in (_TENSORS, _TEXT):
                raise InputError(f"return_type: got {kind!r}, want 0 (tensors) or 1 (texts)")
            options = replace(options, return_type=kind)
        if "stop_sequence" in given:
            given["eos_token_id"] = self._first_token(given.pop("stop_sequence"))
        if "generation_config" in given:
            options = replace(options, config=self._config_of(given.pop("generation_config")))
        return replace(options, config=self._checked(options.config.updated(given), given))

    def _config_of(self, value: Any) -> GenerationConfig:
        """Read a generation_config, which takes the place of the checkpoint's."""
        values = value.to_diff_dict() if hasattr(value, "to_diff_dict") else value
        if not isinstance(values, Mapping):
            got = type(value).__name__
            raise InputError(f"generation_config: got {got}, want a dictionary of its fields")
        return GenerationConfig.from_values(values, self.model.token_ids)

    def _checked(self, config: GenerationConfig, given: Mapping[str, Any]) -> GenerationConfig:
        """Refuse what the model cannot do: more tokens than positions, unknown token ids."""
        most, size = self.model.max_target_length, self.model.target_vocab_size
        for name in ("max_length", "max_new_tokens"):
            room = most - 1 if name == "max_new_tokens" else most
            if given.get(name, 0) > room:
                raise InputError(f"{name}: got {given[name]}, want at most {room} with this model")
        tokens = [
            (name, getattr(config, name))
            for name in GENERATION_FIELDS
            if "token_id" in name and name != "eos_token_id"
        ]
        tokens += [("eos_token_id", token) for token in config.eos_token_ids]
        for name, token in tokens:
            if token is not None and token >= size:
                raise InputError(f"{name}: got {token}, want a token id below {size}")
        return config

    def _first_token(self, text: Any) -> int:
        ids = self.model.target_tokenizer.encode(text, field="stop_sequence").input_ids
        if not len(ids):
            raise InputError(f"stop_sequence: got {text!r}, want text with a token")
        return int(ids[0])

    def _stream(
        self, inputs: Iterable[Any], options: WritingOptions, batch_size: int
    ) -> Iterator[list[dict[str, Any]]]:
        index = 0
        for chunk in chunks(inputs, batch_size):
            sequences = []
            for text in chunk:
                place = f"inputs[{index}]"
                index += 1
                if not isinstance(text, str):
                    raise InputError(f"{place}: got {type(text).__name__}, want str")
                item = check_input(text, place)
                sequences.append(make_input(self.tokenizer, item, options.truncation, place=place))
            for found in self.model.generate(sequences, options.config):
                yield self._records(found, options)

    def _records(
        self, found: Sequence[Hypothesis], options: WritingOptions
    ) -> list[dict[str, Any]]:
        if options.return_type == _TENSORS:
            longest = max(len(item.token_ids) for item in found)
            key = f"{self.return_name}_token_ids"
            return [{key: self.model.as_tensor(item.token_ids, longest)} for item in found]
        return [
            {f"{self.return_name}_text": self._text(item.token_ids, options.cleans_up)}
            for item in found
        ]

    def _text(self, token_ids: Sequence[int], cleans_up: bool) -> str:
        text = self.model.target_tokenizer.decode(token_ids, skip_special_tokens=True)
        for found, put in _CLEANED if cleans_up else ():
            text = text.replace(found, put)
        return text


class GeneratedSummaryPipeline(Text2TextGenerationPipeline):
    """Writes a summary of each text. Thread-safe."""

    task = "summarization"
    return_name = "summary"


class TranslationPipeline(Text2TextGenerationPipeline):
    """Writes each text in another language. Thread-safe."""

    task = "translation"
    return_name = "translation"

    def _options(self, defaults: WritingOptions, settings: Mapping[str, Any]) -> WritingOptions:
        given = {name: value for name, value in settings.items() if name not in _LANGUAGES}
        return super()._options(defaults, given)
