"""What a user may set of a task, and what its data files are: all that training needs of it."""

from __future__ import annotations

import dataclasses
from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from bert_rt.support.flags import known_flags

__all__ = ["NoLayout", "TaskSettings"]


@dataclass(frozen=True)
class NoLayout:
    """The layout of data files that need no more than their name."""


class TaskSettings(ABC):
    """A task's name, limits and data files.

    Attributes:
        name: As in manifests and on command lines, such as "question-answering".
        limits_class: The task's limits: a frozen dataclass with max_seq_length among its fields.
            Each field is a flag, as those of layout_class are.
        layout_class: How data files may be laid out: a frozen dataclass, by default an empty one.
        data_files: What its data files may be, for help.
    """

    name: ClassVar[str]
    limits_class: ClassVar[type[Any]]
    layout_class: ClassVar[type[Any]] = NoLayout
    data_files: ClassVar[str]

    def make_limits(self, given: Mapping[str, Any], base: Any = None) -> Any:
        """Make limits of flags.

        Args:
            given: Fields of limits_class that were given.
            base: The limits for all others; None for the defaults.

        Returns:
            The limits, of limits_class.

        Raises:
            ConfigError: A field is none of this task's, or its value is out of range.
        """
        known = known_flags(given, self.limits_class, f"a {self.name} model")
        if base is None:
            return self.limits_class(**known)
        return dataclasses.replace(base, **known)

    def make_layout(self, given: Mapping[str, Any]) -> Any:
        """Make the layout of data files of flags; raises ConfigError as make_limits does."""
        where = f"a data file of {self.name}"
        return self.layout_class(**known_flags(given, self.layout_class, where))
