"""Fine-tuning on SQuAD: tokens a second of train.finetune and of Transformers' Trainer.

    pip install accelerate
    python benchmarks/bench_training.py --model_name_or_path DIR --train_file train-v1.1.json.gz

Both sides train the same network in the same precision with the same threads on the same windows,
in batches of as many windows, AdamW, clipping and the checkpoint's dropout of 0.1. In every round
each does some steps, one side after the other; what is compared is tokens that are no padding, from
the end of step --logging_steps to the end of the last one. On a GPU, which is waited for at these
steps only, both need some dozens: --device cuda --precision bf16 --steps 120 --logging_steps 20.

The Trainer comes in both of its usual forms: with its default collator (a tokenizer is given: each
batch is padded to its longest window; the order is random), and padded to max_seq_length, as the
run_qa.py example does by default. Ours comes as users get it, and with dropout switched off.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from bert_rt.engines.threads import resolve_num_threads
from bert_rt.model.checkpoint import read_tokenizer_files
from bert_rt.tasks.checkpoints import load_model
from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.tasks.question_answering.squad import read_squad
from bert_rt.text.tokenization import Tokenizer
from train.loop.journal import read_metrics
from train.loop.loop import train
from train.loop.processes import join_processes
from train.options import TrainOptions
from train.tasks.question_answering.objective import QuestionAnswering
from train.tasks.question_answering.windows import Window, make_windows

LIMITS = AnsweringConfig()


class Windows(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """The windows as the Trainer takes them."""

    def __init__(self, windows: list[Window]) -> None:
        self.windows = windows

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        window = self.windows[index]
        first, last = window.spans[0].tolist()
        return {
            "input_ids": window.feature.input_ids.tolist(),
            "token_type_ids": window.feature.token_type_ids.tolist(),
            "attention_mask": [1] * window.feature.num_tokens,
            "start_positions": first,
            "end_positions": last,
        }


class Timed(transformers.Trainer):  # type: ignore[misc]
    """The Trainer, with a clock after every step."""

    def compute_loss(self, model: Any, inputs: Any, **kwargs: Any) -> Any:
        self.tokens = [*getattr(self, "tokens", []), inputs["attention_mask"].sum()]
        return super().compute_loss(model, inputs, **kwargs)


class Clock(transformers.TrainerCallback):  # type: ignore[misc]
    """Notes when the first and the last of the steps that count ended."""

    def __init__(self, steps: tuple[int, int]) -> None:
        self.steps = steps
        self.ends_s: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step in self.steps:
            if args.device.type == "cuda":
                torch.cuda.synchronize()
            self.ends_s.append(time.perf_counter())


def trainer_rate(args: argparse.Namespace, windows: list[Window], *, to_longest: bool) -> float:
    """Train with Transformers; return tokens a second."""
    model = transformers.BertForQuestionAnswering.from_pretrained(args.model_name_or_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model_name_or_path)
    collator = transformers.DataCollatorWithPadding(
        tokenizer, padding="longest" if to_longest else "max_length", max_length=384
    )
    clock = Clock((args.logging_steps, args.steps))
    with tempfile.TemporaryDirectory() as directory:
        trainer = Timed(
            model=model,
            args=transformers.TrainingArguments(
                output_dir=directory,
                per_device_train_batch_size=args.batch_size,
                max_steps=args.steps,
                learning_rate=1e-4,
                report_to=[],
                save_strategy="no",
                disable_tqdm=True,
                use_cpu=args.device == "cpu",
                bf16=args.precision == "bf16",
                dataloader_pin_memory=args.device != "cpu",
            ),
            train_dataset=Windows(windows),
            processing_class=tokenizer,
            data_collator=collator,
            callbacks=[clock],
        )
        trainer.train()
    tokens = sum(int(x) for x in trainer.tokens[args.logging_steps :])
    return tokens / (clock.ends_s[-1] - clock.ends_s[0])


def our_rate(args: argparse.Namespace, windows: list[Window], *, dropout: float | None) -> float:
    """Train with train.loop.loop; return tokens a second."""
    loaded = load_model(args.model_name_or_path)
    options = TrainOptions(
        learning_rate=1e-4,
        max_steps=args.steps,
        dropout=dropout,
        logging_steps=args.logging_steps,
        save_steps=0,
        precision=args.precision,
        device=args.device,
        seed=args.seed,
    )
    with tempfile.TemporaryDirectory() as directory, join_processes(args.device) as processes:
        torch.set_num_threads(resolve_num_threads(args.num_threads))
        objective = QuestionAnswering(
            loaded,
            windows,
            [],
            Tokenizer.from_directory(args.model_name_or_path),
            read_tokenizer_files(args.model_name_or_path),
            LIMITS,
            batch_size=args.batch_size,
            seed=args.seed,
        )
        objective.padding.multiple = processes.length_multiple
        train(loaded.model, objective, options, Path(directory), processes, fingerprint={})
        lines = [x for x in read_metrics(Path(directory) / "metrics.jsonl") if "loss" in x]
    tokens = lines[-1]["num_tokens"] - lines[0]["num_tokens"]
    # Every line by its own rate: what stands between two of them is the logging.
    seconds = sum(
        (after["num_tokens"] - before["num_tokens"]) / after["tokens_per_second"]
        for before, after in itertools.pairwise(lines)
    )
    return float(tokens / seconds)


def main() -> None:
    """Run the sides in turn and print the ratios with their spread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model_name_or_path", type=Path, required=True)
    parser.add_argument("--train_file", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--batch_size", type=int, default=24)
    parser.add_argument("--logging_steps", type=int, default=1)
    parser.add_argument("--num_threads", type=int)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--json")
    args = parser.parse_args()
    if not 1 <= args.logging_steps < args.steps:
        parser.error(
            f"--logging_steps: got {args.logging_steps}, want 1 to {args.steps - 1}, below --steps"
        )
    torch.set_num_threads(resolve_num_threads(args.num_threads))
    tokenizer = Tokenizer.from_directory(args.model_name_or_path)
    examples = read_squad(args.train_file)
    windows = make_windows(examples[:: max(1, len(examples) // 20_000)], tokenizer, LIMITS)
    sides: dict[str, Callable[[], float]] = {
        "bert_rt": lambda: our_rate(args, windows, dropout=None),
        "bert_rt, no dropout": lambda: our_rate(args, windows, dropout=0.0),
        "Trainer": lambda: trainer_rate(args, windows, to_longest=True),
        "Trainer, padded to 384": lambda: trainer_rate(args, windows, to_longest=False),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(args.rounds):
        args.seed = turn
        for name, run in sides.items():
            rates[name].append(run())
            print(f"round {turn + 1}: {name}: {rates[name][-1]:.0f} tokens/s", flush=True)
    ratios = {}
    for ours in ("bert_rt", "bert_rt, no dropout"):
        for theirs in ("Trainer", "Trainer, padded to 384"):
            values = [a / b for a, b in zip(rates[ours], rates[theirs], strict=True)]
            figures = {"median": statistics.median(values), "low": min(values), "high": max(values)}
            ratios[f"{ours} / {theirs}"] = figures
            span = f"{figures['low']:.2f} to {figures['high']:.2f}"
            print(f"{ours} / {theirs}: {figures['median']:.2f} ({span})")
    if args.json:
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        Path(args.json).write_text(
            json.dumps({"rates": rates, "ratios": ratios, "versions": versions}, indent=2)
        )


if __name__ == "__main__":
    main()
