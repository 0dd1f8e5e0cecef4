"""Write a checkpoint that INT8 finds hard: channels many times wider than the rest.

    python benchmarks/outlier_channels.py --model_name_or_path CHECKPOINT --output_dir DIR

One channel of every head and one in 64 of the feed-forward channels are widened in every layer
(tests/support/outliers.py says how). Compile DIR as any other checkpoint: what is measured is
INT8 against this model's own float answers.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bert_rt.model.checkpoint import save_checkpoint
from bert_rt.tasks.checkpoints import load_model
from tests.support.outliers import scale_channels

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "tokenizer_config.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model_name_or_path", required=True, type=Path)
    parser.add_argument("--output_dir", required=True, type=Path)
    parser.add_argument("--factor", type=float, default=50.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    loaded = load_model(args.model_name_or_path)
    config = loaded.config
    random = np.random.default_rng(args.seed)
    heads = np.arange(config.num_attention_heads) * config.head_dim
    head_channels = heads + random.integers(config.head_dim, size=len(heads))
    num_wide = config.intermediate_size // 64
    ffn_channels = random.choice(config.intermediate_size, num_wide, replace=False)
    scale_channels(
        loaded.model,
        args.factor,
        num_layers=config.num_hidden_layers,
        head_channels=head_channels.tolist(),
        ffn_channels=ffn_channels.tolist(),
    )
    files = {
        name: (args.model_name_or_path / name).read_bytes()
        for name in TOKENIZER_FILES
        if (args.model_name_or_path / name).exists()
    }
    save_checkpoint(args.output_dir, loaded.model, config, tokenizer_files=files)
    print(f"{args.output_dir}: {len(heads)} channels of heads and {num_wide} behind GELU a layer")


if __name__ == "__main__":
    main()
