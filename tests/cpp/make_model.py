"""Write tests/cpp/tiny.onnx, the model that the C++ driver runs: python -m tests.cpp.make_model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.kernels import graphs


def main() -> None:
    """Write the file beside this one."""
    spec = replace(
        graphs.TINY,
        vocab_size=40,
        hidden_size=32,
        intermediate_size=64,
        max_position_embeddings=96,
        outlier_linears=frozenset({"1.ffn2"}),
        float_linears=frozenset({"0.attention"}),
    )
    path = Path(__file__).with_name("tiny.onnx")
    path.write_bytes(graphs.build(spec).SerializeToString())


if __name__ == "__main__":
    main()
