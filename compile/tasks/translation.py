"""Compiling encoder-decoders that translate, judged by BLEU.

Shapes: Q texts, E evaluations, R draws.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bert_rt.api import Runtime
from bert_rt.artifact.artifact import TOKENIZER_NAME
from bert_rt.artifact.decoder import DecoderEntry
from bert_rt.artifact.entries import ModelEntry
from bert_rt.artifact.manifest import Manifest
from bert_rt.engines.onnxruntime import open_session
from bert_rt.engines.threads import available_cpus
from bert_rt.errors import CalibrationError, ConfigError
from bert_rt.generation.config import GenerationConfig
from bert_rt.model.config import BertConfig
from bert_rt.model.encoder_decoder_checkpoint import (
    TARGET_DIRECTORY,
    LoadedEncoderDecoder,
    load_encoder_decoder,
    read_target_tokenizer_files,
)
from bert_rt.support.outputs import PER_SEQUENCE, PER_TOKEN
from bert_rt.support.progress import Progress, progress
from bert_rt.support.seq2seq import LOGITS, cross_names
from bert_rt.tasks.base import CallOptions, SelfTestItem
from bert_rt.tasks.limits import WritingLimits
from bert_rt.tasks.selftest import make_self_test
from bert_rt.tasks.translation.evaluation import TranslationEvaluation
from bert_rt.tasks.translation.pairs import SentencePair, pair_files
from bert_rt.tasks.translation.scores import bleu_of, bleu_statistics
from bert_rt.tasks.translation.translating import Translating
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import TokenSequence
from compile.graph.graphs import Graphs
from compile.graph.head import GraphHead
from compile.graph.seq2seq import fuse_decoder, fuse_encoder, trace_decoder, trace_encoder
from compile.graph.seq2seq_parity import NUM_SEQ2SEQ_SHAPES, check_seq2seq_parity
from compile.int8.drives import SequenceDrive, TargetDrive
from compile.int8.quantize import QuantConfig
from compile.int8.recipe import FloatGraph
from compile.judge.gate import Measure
from compile.judge.noninferiority import resampled_sums
from compile.judge.temperature import FittedTemperature
from compile.judge.tokens import check_tokenizer
from compile.report.changes import Change, worst_first
from compile.tasks.base import CompileTask, Settings

__all__ = ["Translation"]

_TARGET_TOKENIZER = "target_tokenizer.json"
# What Transformers' pipelines do where a checkpoint is silent.
_NUM_BEAMS = 4
_TOKEN_IDS = ("decoder_start_token_id", "eos_token_id", "pad_token_id")


class Translation(CompileTask):
    """Texts with their translations, judged by BLEU."""

    task = Translating()
    has_decoder = True
    # A search compares scores; none of them is the probability that a translation is right.
    has_probabilities = False
    golden_inputs: ClassVar[Sequence[Any]] = (
        "A man is riding a bicycle.",
        "Two children are playing in the garden.",
        "A woman in a red coat reads a book on a train.",
        "The dog runs over the grass.",
        "People are standing on the street.",
        "A boy jumps into the water.",
        "The girl eats an apple.",
        "Three men in blue shirts work on a house.",
    )
    # Another engine's INT8 moves the difference of two sums by less than a tenth.
    golden_lead = 0.3
    limits: WritingLimits
    measure = Measure(
        metrics={"bleu": "BLEU", "chrf": "chrF"},
        comparisons={"changed_translations": "share of texts with another translation"},
        examples="texts",
        clusters="texts",
        min_ratio=0.995,
        max_loss=0.5,
        tolerance=0.5,
        ceilings={"changed_translations": 0.1},
        changes=("text", "float's translation", "BLEU", "INT8's translation", "BLEU"),
        digits={"changed_translations": 4},
    )

    @classmethod
    def measures(cls) -> Sequence[Measure]:
        """Return the only one."""
        return [cls.measure]

    @classmethod
    def load(cls, directory: Path) -> LoadedEncoderDecoder:
        """Load a checkpoint of an encoder-decoder; raises CheckpointError."""
        return load_encoder_decoder(directory)

    @classmethod
    def for_model(cls, loaded: LoadedEncoderDecoder, settings: Settings) -> Translation:
        """Make the part of a checkpoint; raises ConfigError."""
        config, default = loaded.config, WritingLimits()
        longest = {
            "max_seq_length": config.max_source_length,
            "max_target_length": config.max_target_length,
        }
        limits = {name: min(most, getattr(default, name)) for name, most in longest.items()}
        part = cls(replace(settings, limits={**limits, **settings.limits}))
        for name, most in longest.items():
            got = getattr(part.limits, name)
            if got > most:
                raise ConfigError(f"{name}: got {got}, want at most the model's {most}")
        return part

    @classmethod
    def for_manifest(cls, manifest: Manifest, settings: Settings) -> Translation:
        """Make the part of an artifact, to measure it again."""
        return cls(replace(settings, limits=manifest.limits))

    # The model.

    def architecture(self, loaded: LoadedEncoderDecoder) -> BertConfig:
        """Return the encoder's."""
        return loaded.config.encoder

    def graph_head(self, config: BertConfig) -> GraphHead:
        """Not asked: make_graphs fuses two graphs."""
        raise AssertionError("an encoder-decoder has no head")

    def make_graphs(self, loaded: LoadedEncoderDecoder, *, seed: int) -> Graphs:
        """Trace and fuse both graphs; see CompileTask."""
        model, config = loaded.model, loaded.config
        encoder, decoder = trace_encoder(model), trace_decoder(model)
        fusions = {f"encoder.{name}": n for name, n in fuse_encoder(encoder, config).items()}
        fusions |= {f"decoder.{name}": n for name, n in fuse_decoder(decoder, config).items()}
        with progress("compare with PyTorch", total=NUM_SEQ2SEQ_SHAPES, unit="shapes") as shown:
            parity = check_seq2seq_parity(encoder, decoder, model, seed=seed, progress=shown)
        cross = dict.fromkeys(cross_names(config.decoder.num_hidden_layers), PER_TOKEN)
        entries = {
            "encoder": ModelEntry(file="encoder.onnx", outputs=cross),
            "decoder": ModelEntry(file="decoder.onnx", outputs={LOGITS: PER_SEQUENCE}),
        }
        return Graphs({"encoder": encoder, "decoder": decoder}, entries, fusions, parity)

    def tokenizer_files(self, directory: Path) -> dict[str, Tokenizer]:
        """Read both tokenizers; one where that serves both sides. See CompileTask."""
        files = super().tokenizer_files(directory)
        self._target_file = TOKENIZER_NAME
        if read_target_tokenizer_files(directory):
            self._target_file = _TARGET_TOKENIZER
            target = Tokenizer.from_directory(directory / TARGET_DIRECTORY)
            check_tokenizer(directory / TARGET_DIRECTORY, target)
            files[_TARGET_TOKENIZER] = target
        return files

    def decoder_entry(self, loaded: LoadedEncoderDecoder) -> DecoderEntry:
        """Return the decoder, with the checkpoint's way of searching; raises ConfigError."""
        config, longest = loaded.config, self.limits.max_target_length
        defaults = {name: getattr(config, name) for name in _TOKEN_IDS}
        search = GenerationConfig.from_values(
            loaded.generation_config, {**defaults, "num_beams": _NUM_BEAMS, "max_length": longest}
        )
        return DecoderEntry(
            architecture=config.decoder,
            tokenizer=self._target_file,
            generation=search.limited(longest),
        )

    def golden_items(self, runtime: Runtime) -> tuple[SelfTestItem, ...]:
        """Record what a compiled model writes, with a clear lead, for the manifest's self-test."""
        return make_self_test(
            runtime.session,
            runtime.task,
            self.golden_inputs,
            # As the self-test is run: CallOptions ask for the second best translation, too.
            CallOptions(limits=runtime.limits, head=runtime.head),
            min_lead=self.golden_lead,
        )

    # Data.

    def data_files(self, path: Path) -> Sequence[Path]:
        """Return a file of pairs, or the file of each language."""
        return pair_files(path, self.layout)

    def passage(self, example: SentencePair) -> Hashable:
        """Return the text."""
        return example.source

    def describe_shared(self, mine: SentencePair, other: SentencePair) -> str:
        """Say which text it is."""
        return f"is {mine.source[:40]!r} ({mine.place}; {other.place})"

    def draw(
        self,
        examples: Sequence[SentencePair],
        tokenizer: Tokenizer,
        *,
        num_samples: int,
        seed: int,
    ) -> Sequence[TokenSequence]:
        """Draw texts, cut where they are too long; raises CalibrationError."""
        room = self.limits.max_seq_length - 2
        sequences = []
        for pair in _drawn(examples, num_samples, seed):
            ids = tokenizer.encode(pair.source).input_ids[:room]
            ids = np.concatenate(([tokenizer.cls_id], ids, [tokenizer.sep_id])).astype(np.int32)
            sequences.append(TokenSequence(ids, np.zeros(len(ids), np.int32)))
        return sequences

    def float_graphs(
        self,
        loaded: LoadedEncoderDecoder,
        graphs: Graphs,
        examples: Sequence[SentencePair],
        tokenizers: Mapping[str, Tokenizer],
        quant: QuantConfig,
    ) -> dict[str, FloatGraph]:
        """Calibrate the encoder on texts, the decoder on their translations; see CompileTask."""
        source, target = tokenizers[TOKENIZER_NAME], tokenizers[self._target_file]
        num_samples, seed = quant.num_samples, quant.seed
        sequences = self.draw(examples, source, num_samples=num_samples, seed=seed)
        config, room = loaded.config, self.limits.max_target_length - 1
        targets = [
            [config.decoder_start_token_id, *target.encode(pair.target).input_ids[:room].tolist()]
            for pair in _drawn(examples, num_samples, seed)
        ]
        encoder, decoder = graphs.models["encoder"], graphs.models["decoder"]
        pad_id = config.encoder.pad_token_id
        step = TargetDrive(
            # A copy: what is calibrated is balanced in place.
            open_session(ir.to_proto(encoder).SerializeToString(), num_threads=available_cpus()),
            sequences,
            targets,
            pad_id,
            config.decoder.num_hidden_layers,
        )
        texts = SequenceDrive(sequences, pad_id)
        return {
            "encoder": FloatGraph(encoder, texts, config.encoder.num_attention_heads),
            "decoder": FloatGraph(decoder, step, config.decoder.num_attention_heads),
        }

    def fit_temperature(
        self, runtime: Runtime, examples: Sequence[SentencePair], progress: Progress
    ) -> FittedTemperature:
        """Not asked, see has_probabilities."""
        raise AssertionError("scores rank translations, so no temperature is fitted")

    # What is measured.

    def resample(
        self, evaluations: Sequence[TranslationEvaluation], cluster_Q: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Compute BLEU of every draw from sums of counts."""
        counts = [_counts(each) for each in evaluations]
        sums_RM = resampled_sums(np.concatenate(counts, axis=1), cluster_Q)
        sums_REM = sums_RM.reshape(len(sums_RM), len(counts), -1)
        return np.array([[bleu_of(sums_M) for sums_M in sums_EM] for sums_EM in sums_REM])

    def compare(
        self,
        reference: TranslationEvaluation,
        int8: TranslationEvaluation,
        examples: Sequence[SentencePair],
    ) -> Mapping[str, float | NDArray[np.float64]]:
        """Tell which texts get another translation than float's."""
        del examples
        pairs = zip(reference.translations, int8.translations, strict=True)
        changed = np.array([a.text != b.text for a, b in pairs], np.float64)
        return {"changed_translations": changed}

    def confidence(self, evaluation: TranslationEvaluation) -> None:
        """Return None: scores rank translations."""
        del evaluation

    def changes(
        self,
        reference: TranslationEvaluation,
        int8: TranslationEvaluation,
        examples: Sequence[SentencePair],
    ) -> list[Change]:
        """List the texts whose translations differ."""
        mine_QM, his_QM = _counts(reference), _counts(int8)
        return worst_first(
            Change(example.source, mine.text, his.text, bleu_of(a_M) / 100, bleu_of(b_M) / 100)
            for example, mine, his, a_M, b_M in zip(
                examples, reference.translations, int8.translations, mine_QM, his_QM, strict=True
            )
            if mine.text != his.text
        )


def _drawn(examples: Sequence[SentencePair], count: int, seed: int) -> list[SentencePair]:
    if not examples:
        raise CalibrationError("calibration_file: got no pairs to calibrate on, want some")
    order = np.random.default_rng(seed).permutation(len(examples))[:count]
    return [examples[index] for index in order]


def _counts(evaluation: TranslationEvaluation) -> NDArray[np.float64]:
    given = [each.text for each in evaluation.translations]
    return bleu_statistics(given, [example.target for example in evaluation.examples])
