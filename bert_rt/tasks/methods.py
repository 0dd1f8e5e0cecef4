"""The named methods of Runtime, of all tasks that have such; any task is asked with `ask`.

Optional for a new task: a class of its methods in its room, and its name in the list below, where
type checkers and editors find it.
"""

from __future__ import annotations

from bert_rt.tasks.question_answering.methods import AnswerMethods
from bert_rt.tasks.summarization.methods import SummarizeMethods
from bert_rt.tasks.text_classification.methods import ClassifyMethods
from bert_rt.tasks.token_classification.methods import TagMethods
from bert_rt.tasks.translation.methods import TranslateMethods

__all__ = ["TaskMethods"]


class TaskMethods(AnswerMethods, ClassifyMethods, TagMethods, SummarizeMethods, TranslateMethods):
    """What a Runtime can be asked by name."""
