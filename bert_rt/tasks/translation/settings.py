"""Translation: what a user may set, and what its data files are."""

from __future__ import annotations

from bert_rt.tasks.limits import WritingLimits
from bert_rt.tasks.settings import TaskSettings
from bert_rt.tasks.translation.pairs import PairLayout

__all__ = ["Translation"]


class Translation(TaskSettings):
    """Texts of one language into texts of another."""

    name = "translation"
    limits_class = WritingLimits
    layout_class = PairLayout
    data_files = (
        "JSON Lines, TSV or CSV of source and target, or a file a language, for translation"
    )
