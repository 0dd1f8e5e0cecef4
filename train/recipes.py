"""Complete named configurations, as functions. The flags of a command change single values.

docs/training.md says what each costs and what comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bert_rt.errors import ConfigError
from train.data.masking import MASKED_SHARE

__all__ = ["FINETUNING", "INITIALIZATIONS", "PRETRAINING", "Recipe", "recipe_named"]

# Of train.optim.initialization, which imports torch; a command's --help should not.
INITIALIZATIONS = ("local", "random")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a command does where its flags are silent.

    Attributes:
        batch_size: Most sequences of a micro-batch, on each process.
        max_seq_length: Most tokens of a sequence.
        options: Fields of train.options.TrainOptions.
        task_options: Fields of the task's own options.
        vocab_size: Pretraining: tokens of a vocabulary that is trained on the corpus.
        long_seq_length: Pretraining: sequence length of the last tenth of the steps; 0 for none.
        mlm_probability: Pretraining: share of the tokens that are masked.
        initialization: Pretraining: "local" (train.optim.initialization) or "random", the paper's.
    """

    batch_size: int
    max_seq_length: int
    options: Mapping[str, Any] = field(default_factory=dict)
    task_options: Mapping[str, Any] = field(default_factory=dict)
    vocab_size: int = 30522
    long_seq_length: int = 0
    mlm_probability: float = MASKED_SHARE
    initialization: str = "random"


def squad() -> Recipe:
    """Question answering with a small encoder (MiniLM) on SQuAD v1.1.

    One epoch at a rate that suits small models, without dropout; with MiniLM a second one gave no
    more.
    """
    return Recipe(
        batch_size=16,
        max_seq_length=384,
        options={
            "learning_rate": 2e-4,
            "num_train_epochs": 1.0,
            "warmup_ratio": 0.06,
            "layer_decay": 1.0,
            "dropout": 0.0,
        },
    )


def squad_split() -> Recipe:
    """Question answering on SQuAD v1.1 with split layers, learned from the ordinary model.

    For it --num_split_layers K, and the ordinary model both as --model_name_or_path and --teacher.
    """
    return Recipe(
        batch_size=16,
        max_seq_length=384,
        options={
            "learning_rate": 2e-4,
            "num_train_epochs": 1.0,
            "warmup_ratio": 0.06,
            "dropout": 0.0,
        },
        task_options={"teacher_states_weight": 10.0},
    )


def squad_base() -> Recipe:
    """Question answering with BERT-base on SQuAD v1.1, as in the paper, section 4.2."""
    return Recipe(
        batch_size=32,
        max_seq_length=384,
        options={"learning_rate": 5e-5, "num_train_epochs": 3.0, "warmup_ratio": 0.1},
    )


def squad_large() -> Recipe:
    """Question answering with BERT-large on SQuAD v1.1: as base, at the lower rate it needs."""
    return Recipe(
        batch_size=32,
        max_seq_length=384,
        options={"learning_rate": 3e-5, "num_train_epochs": 3.0, "warmup_ratio": 0.1},
    )


def squad_v2() -> Recipe:
    """Question answering on SQuAD v2.0, as in the paper, section 4.3."""
    return Recipe(
        batch_size=48,
        max_seq_length=384,
        options={"learning_rate": 5e-5, "num_train_epochs": 2.0, "warmup_ratio": 0.1},
    )


def sst2() -> Recipe:
    """Sentiment with a small encoder (MiniLM) on SST-2."""
    return Recipe(
        batch_size=32,
        max_seq_length=128,
        options={
            "learning_rate": 5e-5,
            "num_train_epochs": 3.0,
            "warmup_ratio": 0.06,
            "dropout": 0.1,
        },
    )


def sst2_base() -> Recipe:
    """Sentiment with BERT-base on SST-2, as in the paper, section 4.1."""
    return Recipe(
        batch_size=32,
        max_seq_length=128,
        options={"learning_rate": 2e-5, "num_train_epochs": 3.0, "warmup_ratio": 0.1},
    )


def conll() -> Recipe:
    """Named entities with a small encoder (MiniLM) on data like CoNLL-2003's."""
    return Recipe(
        batch_size=32,
        max_seq_length=128,
        options={
            "learning_rate": 1e-4,
            "num_train_epochs": 5.0,
            "warmup_ratio": 0.06,
            "dropout": 0.1,
        },
    )


def conll_base() -> Recipe:
    """Named entities with BERT-base on CoNLL-2003, at a rate of the paper's, appendix A.3."""
    return Recipe(
        batch_size=32,
        max_seq_length=128,
        options={"learning_rate": 5e-5, "num_train_epochs": 4.0, "warmup_ratio": 0.1},
    )


def scitldr() -> Recipe:
    """One sentence of an abstract with a small encoder (MiniLM), on SciTLDR.

    For it --max_sentences 1; a summary of news has 3.
    """
    return Recipe(
        batch_size=8,
        max_seq_length=384,
        options={
            "learning_rate": 1e-4,
            "num_train_epochs": 2.0,
            "warmup_ratio": 0.1,
            "dropout": 0.0,
        },
    )


def multi30k() -> Recipe:
    """Pairs of languages: a small model from nothing, on Multi30k or pairs as short and as few."""
    return Recipe(
        batch_size=512,
        max_seq_length=128,
        options={
            "learning_rate": 5e-3,
            "num_train_epochs": 32.0,
            "warmup_ratio": 0.05,
            "adam_beta2": 0.98,
            "adam_epsilon": 1e-9,
            "dropout": 0.15,
            "save_steps": 400,
            "save_total_limit": 12,
        },
    )


def _small_pretraining(learning_rate: float, batch_size: int) -> Recipe:
    # Adam's second mean over 50 steps in place of 1,000: such runs have some thousand steps.
    return Recipe(
        batch_size=batch_size,
        max_seq_length=128,
        vocab_size=8192,
        initialization="local",
        options={
            "learning_rate": learning_rate,
            "adam_beta2": 0.98,
            "adam_epsilon": 1e-6,
            "warmup_ratio": 0.05,
            "dropout": 0.0,
        },
    )


def pretrain_tiny() -> Recipe:
    """A model of 2 layers of 128, in minutes on a laptop."""
    return _small_pretraining(2e-3, 16)


def pretrain_mini() -> Recipe:
    """A model of 4 layers of 256, in half an hour on two cores."""
    return _small_pretraining(1e-3, 16)


def pretrain_small() -> Recipe:
    """A model of 4 layers of 512, in hours on a laptop or 20 minutes on a GPU."""
    return _small_pretraining(1e-3, 128)


def pretrain_medium() -> Recipe:
    """A model of 8 layers of 512, for a GPU."""
    return _small_pretraining(7e-4, 128)


def pretrain_base() -> Recipe:
    """BERT-base as in the paper: 1 M steps of 256 sequences, the last tenth of 512 tokens.

    The batch is meant over all processes and accumulated steps; appendix A.2.
    """
    return Recipe(
        batch_size=32,
        max_seq_length=128,
        long_seq_length=512,
        options={
            "learning_rate": 1e-4,
            "max_steps": 1_000_000,
            "warmup_ratio": 0.01,
            "gradient_accumulation_steps": 8,
        },
    )


def pretrain_large() -> Recipe:
    """BERT-large with LAMB on batches of 4,096 sequences (You et al. 2019, arXiv:1904.00962)."""
    return Recipe(
        batch_size=32,
        max_seq_length=128,
        long_seq_length=512,
        options={
            "optimizer": "lamb",
            "learning_rate": 1.8e-3,
            "adam_epsilon": 1e-6,
            "max_steps": 125_000,
            "warmup_ratio": 0.025,
            "gradient_accumulation_steps": 128,
        },
    )


FINETUNING: Mapping[str, Callable[[], Recipe]] = {
    "squad": squad,
    "squad_split": squad_split,
    "squad_base": squad_base,
    "squad_large": squad_large,
    "squad_v2": squad_v2,
    "sst2": sst2,
    "sst2_base": sst2_base,
    "conll": conll,
    "conll_base": conll_base,
    "scitldr": scitldr,
    "multi30k": multi30k,
}
PRETRAINING: Mapping[str, Callable[[], Recipe]] = {
    "tiny": pretrain_tiny,
    "mini": pretrain_mini,
    "small": pretrain_small,
    "medium": pretrain_medium,
    "base": pretrain_base,
    "large": pretrain_large,
}


def recipe_named(name: str, recipes: Mapping[str, Callable[[], Recipe]]) -> Recipe:
    """Make a recipe by its name; a ConfigError where there is none."""
    if name not in recipes:
        raise ConfigError(f"recipe: got {name!r}, want one of {', '.join(recipes)}")
    return recipes[name]()
