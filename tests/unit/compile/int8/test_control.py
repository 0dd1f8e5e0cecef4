"""Tests of compile.int8.control."""

from __future__ import annotations

import pytest

from bert_rt.errors import ParityError
from compile.int8.control import choose_float_layers, hold_out
from compile.judge.gate import Verdict
from tests.unit.compile import tiny

_SENSITIVITIES = {name: 1 / rank for rank, name in enumerate("abcdefgh", start=1)}


def held_out_of(count: int, wanted: int, seed: int = 0) -> tuple[list[str], list[str]]:
    kept, held_out = hold_out(
        tiny.examples(count), lambda e: e.context, num_held_out=wanted, seed=seed
    )
    assert not {e.context for e in kept} & {e.context for e in held_out}
    return [e.id for e in kept], [e.id for e in held_out]


def test_passages_are_set_aside_whole() -> None:
    kept, held_out = held_out_of(40, 5)
    # Two questions a passage: three passages have five questions at least.
    assert len(held_out) == 6
    assert sorted(kept + held_out) == sorted(e.id for e in tiny.examples(40))
    assert kept == [e.id for e in tiny.examples(40) if e.id in kept]


def test_most_passages_stay_to_calibrate_on() -> None:
    assert len(held_out_of(40, 1000)[1]) == 8  # a fifth of 20 passages
    assert held_out_of(8, 1000) == ([e.id for e in tiny.examples(8)], [])
    assert held_out_of(40, 0)[1] == []


def test_the_draw_follows_its_seed() -> None:
    assert held_out_of(40, 4) == held_out_of(40, 4) != held_out_of(40, 4, seed=1)


def test_what_passes_as_it_is_stays_int8() -> None:
    judged = []

    def judge(names: tuple[str, ...]) -> Verdict:
        judged.append(names)
        return Verdict(True, "fine")

    assert choose_float_layers(_SENSITIVITIES, judge, most=4) == ((), Verdict(True, "fine"))
    assert judged == [()]


def test_the_most_sensitive_layers_stay_in_float() -> None:
    def judge(names: tuple[str, ...]) -> Verdict:
        return Verdict({"a", "c"} <= set(names), f"with {len(names)}")

    found = choose_float_layers(_SENSITIVITIES, judge, most=8)
    assert found == (("a", "b", "c"), Verdict(True, "with 3"))


def test_layers_that_pass_with_room_are_preferred() -> None:
    def judge(names: tuple[str, ...]) -> Verdict:
        return Verdict(len(names) >= 2, f"with {len(names)}", is_near=len(names) < 5)

    found = choose_float_layers(_SENSITIVITIES, judge, most=8)
    assert found == (tuple("abcde"), Verdict(True, "with 5"))
    found = choose_float_layers(_SENSITIVITIES, judge, most=4)
    assert found == (tuple("abcd"), Verdict(True, "with 4", is_near=True))


def test_what_passes_narrowly_is_better_than_nothing() -> None:
    def judge(names: tuple[str, ...]) -> Verdict:
        return Verdict(len(names) in (2, 3), f"with {len(names)}", is_near=True)

    found = choose_float_layers(_SENSITIVITIES, judge, most=4)
    assert found == (tuple("ab"), Verdict(True, "with 2", is_near=True))


def test_what_fails_by_chance_is_left_to_the_evaluation_file() -> None:
    def judge(names: tuple[str, ...]) -> Verdict:
        return Verdict(False, f"with {len(names)}", may_pass=len(names) >= 4)

    found = choose_float_layers(_SENSITIVITIES, judge, most=5)
    assert found == (tuple("abcde"), Verdict(False, "with 5", may_pass=True))
    with pytest.raises(ParityError, match=r"^int8: loses too much"):
        choose_float_layers(_SENSITIVITIES, judge, most=3)


@pytest.mark.parametrize("most", [0, 1, 2, 4])
def test_a_refusal_names_the_layers(most: int) -> None:
    def judge(names: tuple[str, ...]) -> Verdict:
        return Verdict(len(names) > 4, f"F1 {len(names)}0")

    with pytest.raises(ParityError, match=r"^int8: loses too much") as caught:
        choose_float_layers(_SENSITIVITIES, judge, most=most)
    message = str(caught.value)
    assert f"even with the {most} most sensitive layers in float: F1 {most}0. " in message
    assert message.endswith(f"These layers are: {', '.join('abcdefgh'[:most]) or 'none'}")
