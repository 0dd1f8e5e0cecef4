"""Write the models that the C++ driver runs, tests/cpp/*.onnx: python -m tests.cpp.make_model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.kernels import graphs, seq2seq_graphs


def main() -> None:
    """Write the files beside this one."""
    spec = replace(
        graphs.TINY,
        vocab_size=40,
        hidden_size=32,
        intermediate_size=64,
        max_position_embeddings=96,
        outlier_linears=frozenset({"1.ffn2"}),
        float_linears=frozenset({"0.attention"}),
    )
    # The embeddings of RoBERTa and ELECTRA at once.
    family = replace(spec, embedding_size=16, token_types="first", position_offset=2)
    # One linear layer over all tokens, of more labels than a panel has columns.
    tokens = replace(spec, num_labels=19, pooler="")
    for name, one in (("tiny", spec), ("family", family), ("tokens", tokens)):
        path = Path(__file__).with_name(f"{name}.onnx")
        path.write_bytes(graphs.build(one).SerializeToString())
    small = replace(
        graphs.TINY, vocab_size=21, hidden_size=32, intermediate_size=48, max_position_embeddings=24
    )
    pair = seq2seq_graphs.build_pair(
        seq2seq_graphs.Seq2SeqSpec(
            encoder=replace(small, num_hidden_layers=1, token_types="first"),
            decoder=replace(
                small,
                hidden_size=48,
                outlier_linears=frozenset({"1.ffn2"}),
                float_linears=frozenset({"0.cross_query", "1.attention"}),
            ),
        )
    )
    for name, data in (("encoder", pair.encoder), ("decoder", pair.decoder)):
        Path(__file__).with_name(f"{name}.onnx").write_bytes(data)


if __name__ == "__main__":
    main()
