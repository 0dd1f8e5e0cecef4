"""The self-test items that travel in an artifact.

Each is a question whose answer this compiled model gives with a clear margin, so that another
engine or instruction set, which rounds differently, gives the same one unless it is broken.
"""

from __future__ import annotations

from typing import Any

from bert_rt.api import Runtime
from bert_rt.tasks.selftest import make_self_test

__all__ = ["golden_items"]

# Logit distance to the next best span, well above what engines of one artifact differ by.
_MIN_LEAD = 1.5
_CONTEXTS = (
    "The first transatlantic telegraph cable was completed in August 1858. It ran from Valentia "
    "Island in Ireland to Trinity Bay in Newfoundland, and it failed after three weeks because "
    "too high a voltage had been applied to it.",
    "Honey bees tell their nest mates where food is by dancing. Karl von Frisch, who decoded the "
    "waggle dance, received the Nobel Prize in Physiology or Medicine in 1973.",
    "Lake Baikal in southern Siberia is the deepest lake on Earth, at 1,642 metres. It holds about "
    "a fifth of the world's unfrozen fresh water and is some 25 million years old.",
    "Ada Lovelace published the first algorithm intended for a machine in 1843, as a note to her "
    "translation of an article on Charles Babbage's Analytical Engine.",
)
_QUESTIONS = (
    ("When was the first transatlantic telegraph cable completed?", 0),
    ("Why did the cable fail?", 0),
    ("Who decoded the waggle dance?", 1),
    ("How deep is Lake Baikal?", 2),
    ("Where is Lake Baikal?", 2),
    ("Who designed the Analytical Engine?", 3),
    ("When did Ada Lovelace publish the first algorithm?", 3),
)


def golden_items(runtime: Runtime) -> tuple[dict[str, Any], ...]:
    """Record what a compiled model answers.

    Args:
        runtime: The compiled model on a portable engine.

    Returns:
        Items for the manifest, those with a clear lead only; possibly none.
    """
    pairs = [(question, _CONTEXTS[index]) for question, index in _QUESTIONS]
    return make_self_test(
        runtime.session, runtime.task, pairs, runtime.options(), min_lead=_MIN_LEAD
    )
