from __future__ import annotations

import pytest

from bert_rt.errors import ConfigError
from bert_rt.model.config import BERT_SIZES
from train.options import TrainOptions
from train.recipes import FINETUNING, PRETRAINING, recipe_named
from train.tasks.question_answering.task import QuestionAnswering


@pytest.mark.parametrize("name", [*FINETUNING, *PRETRAINING])
def test_every_recipe_is_a_valid_run(name: str) -> None:
    recipe = recipe_named(name, {**FINETUNING, **PRETRAINING})
    ends = {"num_train_epochs", "max_steps"} & recipe.options.keys()
    options = TrainOptions(**{"max_minutes": 1.0, **recipe.options})
    assert options.learning_rate > 0
    # Runs of the small models end by time alone.
    assert ends or name in ("tiny", "mini", "small", "medium")
    assert recipe.long_seq_length in (0, 512)


def test_the_recipe_of_split_layers_learns_a_teachers_states() -> None:
    options = QuestionAnswering().make_options(recipe_named("squad_split", FINETUNING).task_options)
    assert options.teacher_states_weight == 10.0
    assert not recipe_named("squad", FINETUNING).task_options


def test_every_size_has_a_recipe() -> None:
    assert PRETRAINING.keys() == BERT_SIZES.keys()


def test_an_unknown_recipe_is_named() -> None:
    with pytest.raises(ConfigError, match="recipe: got 'x', want one of squad"):
        recipe_named("x", FINETUNING)
