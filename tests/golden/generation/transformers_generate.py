"""Runs under the python of Transformers 4.57: writes what `generate` gives for every case, as JSON.

Started by update_generation; the repository's root is in PYTHONPATH. Cases in which rounding could
decide are left out: each is computed in float32 and in float64, and both must write the same.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import torch
import transformers
from transformers import BertConfig, EncoderDecoderConfig, EncoderDecoderModel

from tests.golden.generation import generation_cases as cases


def make_model(index: int) -> Any:
    """Make the case's model of Transformers."""
    values = cases.model_of(index)
    encoder = BertConfig(**values["encoder"])
    decoder = BertConfig(**values["decoder"], tie_word_embeddings=values["tie_word_embeddings"])
    config = EncoderDecoderConfig.from_encoder_decoder_configs(
        encoder,
        decoder,
        tie_encoder_decoder=values["tie_encoder_decoder"],
        decoder_start_token_id=cases.START,
        eos_token_id=cases.EOS,
        pad_token_id=cases.PAD,
    )
    model = EncoderDecoderModel(config).eval()
    named = dict(model.named_parameters())
    named = {name: p for name, p in named.items() if "pooler" not in name}
    # Shared weights are named once by either program, but not by the same name.
    if values["tie_encoder_decoder"]:
        words = {id(p) for p in model.decoder.parameters()}
        named = {n: p for n, p in named.items() if n[:7] == "decoder" or id(p) not in words}
        named |= {f"decoder.{n}": p for n, p in model.decoder.named_parameters()}
    shapes = {name: tuple(p.shape) for name, p in named.items()}
    for name, array in cases.make_weights(shapes, values["seed"]).items():
        named[name].data.copy_(torch.from_numpy(array))
    return model


def written(model: Any, index: int) -> tuple[list[list[list[int]]], list[list[float]]]:
    """Return the targets of every source, without padding, and their scores."""
    options = cases.options_of(index)
    sources = cases.sources_of(index)
    longest = max(map(len, sources))
    ids = torch.tensor([row + [cases.PAD] * (longest - len(row)) for row in sources])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in sources])
    out = model.generate(
        input_ids=ids,
        attention_mask=mask,
        return_dict_in_generate=True,
        output_scores=True,
        **options,
    )
    count = options.get("num_return_sequences", 1)
    ends = options.get("eos_token_id", cases.EOS)
    ends = ends if isinstance(ends, list) else [ends]
    rows = [shortened(row, ends) for row in out.sequences.tolist()]
    scores = out.sequences_scores.tolist() if options["num_beams"] > 1 else []
    groups = range(0, len(rows), count)
    return [rows[g : g + count] for g in groups], [scores[g : g + count] for g in groups if scores]


def shortened(row: list[int], ends: list[int]) -> list[int]:
    """Cut a row behind its end token."""
    for place, token in enumerate(row):
        if place and token in ends:
            return row[: place + 1]
    return row


def main() -> None:
    """Write the results of all cases to the file that is named."""
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)  # the models are tiny
    results, index = [], 0
    while len(results) < cases.NUM_CASES:
        model = make_model(index)
        targets, scores = written(model, index)
        if written(model.double(), index)[0] == targets:
            results.append([index, targets, scores])
        index += 1
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump({"versions": versions, "tried": index, "results": results}, file)


if __name__ == "__main__":
    main()
