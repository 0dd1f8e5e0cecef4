"""Both graphs of an encoder-decoder: their form, their fusions, and that they are the model."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from bert_rt.errors import ParityError, UnsupportedOpError
from bert_rt.model.encoder_decoder import EncoderDecoder
from bert_rt.support.seq2seq import LOG_PROBS, LOGITS, cross_names, past_names, present_names
from compile.graph.linear import find_linear_layers
from compile.graph.parity import MAX_LOGIT_ERROR
from compile.graph.seq2seq import fuse_decoder, trace_decoder
from compile.graph.seq2seq_modules import SourceEncoder
from compile.graph.seq2seq_parity import NUM_SEQ2SEQ_SHAPES, check_seq2seq_parity
from compile.int8.balance import replace_constants
from tests.support import seq2seq_artifacts as support
from tests.tolerances import FLOAT32_ATOL
from tests.unit.compile import tiny

pytestmark = pytest.mark.timeout(600)
CONFIG = support.make_model().config


def graph(name: str) -> ir.Model:
    return ir.from_proto(onnx.load_from_string(support.float_graphs()[name]))


def sizes(values: object) -> dict[str, str]:
    return {str(value.name): str(value.shape) for value in values}  # type: ignore[attr-defined]


def test_the_graphs_have_the_inputs_and_outputs_of_the_format() -> None:
    encoder, decoder = graph("encoder").graph, graph("decoder").graph
    source, rows = "[sources,source_length]", "[sources,beams]"
    states, past = "[sources,source_length,32]", "[sources,2,past_length,16]"
    assert sizes(encoder.inputs) == {"input_ids": source, "attention_mask": source}
    assert sizes(encoder.outputs) == dict.fromkeys(cross_names(2), states)
    assert sizes(decoder.inputs) == {
        "input_ids": rows,
        "position_ids": rows,
        "past_mask": "[sources,beams,past_length]",
        "source_mask": source,
        **dict.fromkeys(cross_names(2), states),
        **dict.fromkeys(past_names(2), past),
    }
    assert sizes(decoder.outputs) == {
        **dict.fromkeys((LOGITS, LOG_PROBS), f"[sources,beams,{CONFIG.decoder.vocab_size}]"),
        **dict.fromkeys(present_names(2), "[sources,2,length,16]"),
    }
    for part in (encoder, decoder):
        # One graph for the first step and all others.
        assert not {"If", "Loop", "Scan"} & {node.op_type for node in part}


def test_every_linear_layer_has_its_name() -> None:
    encoder = [layer.name for layer in find_linear_layers(graph("encoder"))]
    decoder = [layer.name for layer in find_linear_layers(graph("decoder"))]
    places = ("attention.self.qkv", "attention.output.dense", "intermediate.dense", "output.dense")
    assert encoder == [
        *(f"encoder.layer.{i}.{place}" for i in range(2) for place in places),
        "enc_to_dec_proj",
        "decoder.cross_keys_values",
    ]
    cross = ("crossattention.self.query", "crossattention.output.dense")
    assert decoder == [
        *(f"decoder.layer.{i}.{p}" for i in range(2) for p in (*places[:2], *cross, *places[2:])),
        "decoder.cls.predictions.transform.dense",
        "decoder.cls.predictions.decoder",
    ]


def test_a_lost_fusion_stops_the_compile() -> None:
    # Fused already: nothing is left that a rule matches.
    with pytest.raises(UnsupportedOpError, match=r"fusions: gelu: got 0, want 3; attention: got 0"):
        fuse_decoder(graph("decoder"), CONFIG)


def test_a_past_that_something_else_reads_stops_the_compile() -> None:
    decoder = trace_decoder(support.make_model())
    past = next(value for value in decoder.graph.inputs if value.name == "past_values.1")
    twice = ir.node("Identity", [past])
    decoder.graph.append(twice)
    decoder.graph.outputs.append(twice.outputs[0])
    with pytest.raises(UnsupportedOpError, match="Identity: got a past as its input"):
        fuse_decoder(decoder, CONFIG)


def test_the_graphs_are_the_model() -> None:
    progress = tiny.Silent()
    graphs = graph("encoder"), graph("decoder")
    # Other seeds bring tokens that PyTorch itself computes no better than to 1e-4.
    receipt = check_seq2seq_parity(*graphs, support.make_model(), seed=1, progress=progress)
    assert receipt["max_abs_error"] < FLOAT32_ATOL
    assert receipt["limit"] == MAX_LOGIT_ERROR
    assert progress.count == receipt["num_shapes"] == NUM_SEQ2SEQ_SHAPES


@pytest.mark.parametrize(
    ("part", "layer", "output"),
    [
        ("encoder", "decoder.cross_keys_values", "cross_"),
        ("decoder", "decoder.layer.1.attention.self.qkv", "logits|present_"),
        ("decoder", "decoder.layer.0.crossattention.self.query", "logits|present_"),
        ("decoder", "decoder.cls.predictions.decoder", "logits"),
    ],
)
def test_a_graph_that_is_another_function_is_refused(part: str, layer: str, output: str) -> None:
    graphs = {name: graph(name) for name in ("encoder", "decoder")}
    found = {each.name: each for each in find_linear_layers(graphs[part])}[layer]
    bias_N = found.bias_N + np.float32(0.05) * np.arange(len(found.bias_N), dtype=np.float32)
    replace_constants(graphs[part], found, "broken", None, bias_N)
    with pytest.raises(ParityError, match=rf"^({output}).*differs from PyTorch by"):
        check_seq2seq_parity(
            graphs["encoder"],
            graphs["decoder"],
            support.make_model(),
            seed=0,
            progress=tiny.Silent(),
        )


def check(message: str | None) -> dict[str, float]:
    """Return the receipt; where a message is given, that of the refusal is held against it."""
    graphs = graph("encoder"), graph("decoder")
    model, progress = support.make_model(), tiny.Silent()
    if message is None:
        return check_seq2seq_parity(*graphs, model, seed=1, progress=progress)
    with pytest.raises(ParityError, match=message):
        check_seq2seq_parity(*graphs, model, seed=1, progress=progress)
    return {}


@pytest.mark.parametrize(("rounding", "is_refused"), [(0.002, False), (0.0001, True)])
def test_graphs_may_round_as_pytorch_does(
    rounding: float, is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph that is 0.005 away is one where PyTorch's float32 is 0.002 away from float64."""
    decode = EncoderDecoder.decode

    def shifted(self: EncoderDecoder, *arrays: torch.Tensor) -> torch.Tensor:
        logits = decode(self, *arrays)
        is_exact = logits.dtype == torch.float64
        return logits + (0.005 if is_exact else 0.005 - rounding)

    monkeypatch.setattr(EncoderDecoder, "decode", shifted)
    refusal = r"^logits: .* by 0\.005 after .* at most 0\.001$"
    receipt = check(refusal if is_refused else None)
    if not is_refused:
        assert receipt["max_abs_error"] == pytest.approx(0.005, abs=FLOAT32_ATOL)
        assert receipt["limit"] == pytest.approx(4 * rounding, abs=1e-3)


@pytest.mark.parametrize(("shift", "is_refused"), [(0.005, False), (0.02, True)])
def test_states_have_a_limit_of_their_own(
    shift: float, is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = SourceEncoder.forward

    def shifted(self: SourceEncoder, *arrays: torch.Tensor) -> list[torch.Tensor]:
        first, *others = encode(self, *arrays)
        return [first + shift, *others]

    monkeypatch.setattr(SourceEncoder, "forward", shifted)
    receipt = check(r"^cross_keys\.0: .* by 0\.02 of .* at most 0\.01$" if is_refused else None)
    if not is_refused:
        assert receipt["max_abs_error"] < FLOAT32_ATOL
