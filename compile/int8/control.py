"""Accuracy control: while INT8 loses too much, its most sensitive layers go back to float.

It is judged on examples of the calibration file that nothing was calibrated on, so that the
evaluation file stays what it is for: a judge who has seen nothing before. They are too few for an
interval to lie above the bar, so what was measured is compared itself; the interval is asked of
the evaluation file. Where the examples have so many changed results that others may have too many,
more layers stay in float: the evaluation file would refuse every other model that passes narrowly.
Where no model passes and the one with most in float fails by less than a standard error, the
evaluation file decides, if there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from bert_rt.errors import ParityError
from compile.int8.sensitivity import fewest_float_layers
from compile.judge.gate import Verdict

__all__ = ["choose_float_layers", "hold_out"]

ExampleT = TypeVar("ExampleT")

# Where there are few passages, most of them must stay to calibrate on.
_MAX_HELD_OUT_SHARE = 0.2


def hold_out(
    examples: Sequence[ExampleT],
    key: Callable[[ExampleT], Hashable],
    *,
    num_held_out: int,
    seed: int,
) -> tuple[list[ExampleT], list[ExampleT]]:
    """Set examples aside, all of a passage together.

    Args:
        examples: Those of the calibration file.
        key: Gives what an example's passage is known by.
        num_held_out: Examples to set aside, at least; fewer where a fifth of all passages has not
            so many.
        seed: Of the draw.

    Returns:
        The examples to calibrate on and those set aside, both in the file's order; none is set
        aside where there are fewer than five passages.
    """
    sizes: dict[Hashable, int] = {}
    for example in examples:
        sizes[key(example)] = sizes.get(key(example), 0) + 1
    passages = list(sizes)
    most = int(_MAX_HELD_OUT_SHARE * len(passages))
    held_out: set[Hashable] = set()
    count = 0
    for index in np.random.default_rng(seed).permutation(len(passages))[:most]:
        if count >= num_held_out:
            break
        held_out.add(passages[index])
        count += sizes[passages[index]]
    return (
        [example for example in examples if key(example) not in held_out],
        [example for example in examples if key(example) in held_out],
    )


def choose_float_layers(
    sensitivities: Mapping[str, float],
    judge: Callable[[tuple[str, ...]], Verdict],
    *,
    most: int,
) -> tuple[tuple[str, ...], Verdict]:
    """Find the fewest layers that must stay in float.

    Those with which the verdict is not near a ceiling; where there are none, as many as may be.
    Those may also be ones that fail by less than a standard error (Verdict.may_pass).

    Args:
        sensitivities: Layer name to sensitivity, the largest first.
        judge: Judges the INT8 model with the named layers in float.
        most: Layers that may stay in float at most.

    Returns:
        Their names, the most sensitive first, and the verdict with them.

    Raises:
        ParityError: INT8 fails even so; the message names the layers.
    """
    verdicts: dict[tuple[str, ...], Verdict] = {}

    def passes(names: tuple[str, ...]) -> bool:
        if names not in verdicts:
            verdicts[names] = judge(names)
        return verdicts[names].passes

    def passes_clearly(names: tuple[str, ...]) -> bool:
        return passes(names) and not verdicts[names].is_near

    ranked = list(sensitivities)
    found = fewest_float_layers(ranked, passes_clearly, most=most)
    if found is None and passes(tuple(ranked[:most])):
        found = tuple(ranked[:most])
    if found is None:
        found = fewest_float_layers(ranked, passes, most=most)
    if found is None and verdicts[tuple(ranked[:most])].may_pass:
        found = tuple(ranked[:most])
    if found is None:
        names = max(verdicts, key=len)
        raise ParityError(
            f"int8: loses too much on examples of the calibration file that were set aside, even "
            f"with the {len(names)} most sensitive layers in float: {verdicts[names].summary}. "
            f"Nothing was written. These layers are: {', '.join(names) or 'none'}"
        )
    return found, verdicts[found]
