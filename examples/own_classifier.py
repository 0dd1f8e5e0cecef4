"""A classifier of your own: fine-tune, compile to INT8, classify.

    pip install '.[train,compile]'
    python examples/own_classifier.py --output_dir runs/messages

It sorts messages to a shop by delivery, payment or return (examples/data/messages-*.tsv). To take
a minute and to need no download it starts from a tiny encoder that has hardly been pretrained.
For real work give --model_name_or_path a pretrained checkpoint, and more examples.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bert_rt import Runtime
from compile.export import main as export
from train.finetune import main as finetune
from train.pretrain import main as pretrain

_DATA = Path(__file__).with_name("data")
_TRAIN = str(_DATA / "messages-train.tsv")
_DEV = str(_DATA / "messages-dev.tsv")
_TEXTS = (
    "I would like to send the lamp back",
    "The courier did not ring the bell",
    "My card was charged twice",
)


def make_artifact(output_dir: Path, encoder: str | None = None) -> Path:
    """Train and compile.

    Args:
        output_dir: Gets encoder, classifier and artifact.
        encoder: A pretrained checkpoint; None for a tiny new one.

    Returns:
        The artifact's directory.
    """
    if encoder is None:
        encoder = str(output_dir / "encoder")
        corpus = ["--corpus", str(_DATA / "messages.txt"), "--max_seq_length", "32"]
        pretrain([*corpus, "--model", "tiny", "--max_steps", "4", "--output_dir", encoder])
    classifier, artifact = output_dir / "classifier", output_dir / "artifact"
    data = ["--train_file", _TRAIN, "--validation_file", _DEV]
    run = ["--learning_rate", "2e-3", "--num_train_epochs", "10", "--output_dir", str(classifier)]
    task = ["--task", "text-classification", "--model_name_or_path", encoder]
    finetune([*task, *data, *run])
    data = ["--calibration_file", _TRAIN, "--eval_file", _DEV]
    model = ["--model_name_or_path", str(classifier), "--output_dir", str(artifact)]
    export([*model, "--int8", *data])
    return artifact


def main() -> None:
    """Make the artifact and classify a few texts."""
    parser = argparse.ArgumentParser(description="A classifier of your own.")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--model_name_or_path", help="left out: a tiny new encoder")
    args = parser.parse_args()
    artifact = make_artifact(args.output_dir, args.model_name_or_path)
    with Runtime.load(artifact) as runtime:
        for text, result in zip(_TEXTS, runtime.classify_batch(_TEXTS), strict=True):
            print(f"{result.label:8} {result.score:.2f}  {text}")


if __name__ == "__main__":
    main()
