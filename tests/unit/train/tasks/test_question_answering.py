from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bert_rt.errors import ConfigError, InputError
from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.tasks.question_answering.squad import SquadExample, read_squad
from bert_rt.text.tokenization import Tokenizer
from tests.support.training import make_checkpoint, make_squad
from train.tasks.question_answering.objective import make_question_answering, span_loss
from train.tasks.question_answering.windows import make_windows

LIMITS = AnsweringConfig(max_seq_length=24, doc_stride=4, max_query_length=8)
EXAMPLE = SquadExample(
    id="q1",
    title="",
    question="who is in paris",
    context="the cat sat on the mat in paris",
    answers=("the",),
    answer_starts=(15,),
    is_impossible=False,
)


@pytest.mark.parametrize(("all_positions", "num_spans"), [(True, 2), (False, 1)])
def test_answers_are_where_their_text_stands(
    tokenizer: Tokenizer, all_positions: bool, num_spans: int
) -> None:
    (window,) = make_windows([EXAMPLE], tokenizer, LIMITS, all_positions=all_positions)
    context = tokenizer.encode(EXAMPLE.context)
    texts = []
    for first, last in window.spans - window.feature.context_offset + window.feature.context_start:
        start, end = context.offsets[first][0], context.offsets[last][1]
        texts.append(EXAMPLE.context[start:end])
    assert texts == ["the"] * num_spans
    # "the" within "mathe" would not be on token boundaries of its own.
    inside = replace(EXAMPLE, context=EXAMPLE.context + " mathe")
    (again,) = make_windows([inside], tokenizer, LIMITS, all_positions=all_positions)
    assert len(again.spans) == num_spans


def test_windows_without_the_answer_point_to_cls(tokenizer: Tokenizer) -> None:
    context = "paris " + "the cat sat on the mat " * 8
    example = replace(EXAMPLE, context=context, answers=("paris",), answer_starts=(0,))
    windows = make_windows([example], tokenizer, LIMITS)
    assert len(windows) > 2
    assert windows[0].spans.tolist() == [[windows[0].feature.context_offset] * 2]
    assert all(window.spans.tolist() == [[0, 0]] for window in windows[2:])


def test_an_answer_that_is_not_at_its_place_is_named(tokenizer: Tokenizer) -> None:
    bad = replace(EXAMPLE, answer_starts=(16,), place="f.json: question 'q1'")
    message = (
        "f.json: question 'q1': answer_start: got 16, where the context has 'he ', want the answer "
        "'the', which is at"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        make_windows([bad], tokenizer, LIMITS)


def test_loss_of_one_place_is_the_papers() -> None:
    torch.manual_seed(0)
    start, end = torch.randn(3, 7), torch.randn(3, 7)
    spans = torch.tensor([[[0, 0]], [[2, 3]], [[6, 6]]])
    want = (
        torch.nn.functional.cross_entropy(start, spans[:, 0, 0])
        + torch.nn.functional.cross_entropy(end, spans[:, 0, 1])
    ) / 2
    assert torch.allclose(span_loss(start, end, spans), want)


def test_loss_of_several_places_adds_their_probabilities() -> None:
    torch.manual_seed(0)
    start, end = torch.randn(1, 5), torch.randn(1, 5)
    p_start, p_end = start.softmax(-1)[0], end.softmax(-1)[0]
    want = -math.log(p_start[0] * p_end[1] + p_start[2] * p_end[4]) / 2
    got = span_loss(start, end, torch.tensor([[[0, 1], [2, 4], [-1, -1]]]))
    assert float(got) == pytest.approx(want, rel=1e-5)


def test_padding_has_no_part_in_the_loss(tmp_path: Path) -> None:
    model_dir = make_checkpoint(tmp_path / "model")
    files = [make_squad(tmp_path / "train.json")]
    model, objective = make_question_answering(
        model_dir, files, None, weights_dir=None, config=LIMITS, batch_size=4, seed=0
    )
    tensors = dict(objective.micro_batch(0).tensors)
    model.eval()
    want, _ = objective.loss(model, tensors)
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        tensors[name] = torch.nn.functional.pad(tensors[name], (0, 5))
    got, _ = objective.loss(model, tensors)
    assert torch.allclose(got, want, atol=1e-6)


def test_lengths_are_rounded_up_without_changing_the_loss(tmp_path: Path) -> None:
    model_dir = make_checkpoint(tmp_path / "model")
    losses = []
    for multiple in (1, 16):
        model, objective = make_question_answering(
            model_dir,
            [make_squad(tmp_path / "train.json")],
            None,
            weights_dir=None,
            config=LIMITS,
            batch_size=4,
            seed=0,
        )
        objective.padding.multiple = multiple
        model.eval()
        batch = objective.micro_batch(0)
        assert batch.num_positions == batch.tensors["input_ids"].numel()
        assert batch.tensors["input_ids"].shape[1] % multiple == 0
        losses.append(objective.loss(model, batch.tensors)[0])
    assert torch.allclose(*losses, atol=1e-6)


def test_micro_batches_are_a_function_of_their_index(tmp_path: Path) -> None:
    model_dir = make_checkpoint(tmp_path / "model")
    files = [make_squad(tmp_path / "train.json")]
    _, objective = make_question_answering(
        model_dir, files, files[0], weights_dir=None, config=LIMITS, batch_size=4, seed=0
    )
    first, other = objective.micro_batch(3), objective.micro_batch(4 + objective.num_micro_batches)
    again = objective.micro_batch(3)
    assert all(torch.equal(first.tensors[name], again.tensors[name]) for name in first.tensors)
    assert not np.array_equal(first.tensors["input_ids"], other.tensors["input_ids"])
    assert first.num_tokens == int(first.tensors["attention_mask"].sum())
    assert first.num_positions == first.tensors["input_ids"].numel()


def test_questions_without_answer_need_the_flag(tmp_path: Path) -> None:
    model_dir = make_checkpoint(tmp_path / "model")
    file = make_squad(tmp_path / "train.json")
    text = file.read_text().replace('"answers": [', '"is_impossible": true, "answers": [], "x": [')
    file.write_text(text)
    assert read_squad(file)[0].is_impossible
    with pytest.raises(InputError, match="has no answer; want --version_2_with_negative"):
        make_question_answering(
            model_dir, [file], None, weights_dir=None, config=LIMITS, batch_size=4, seed=0
        )
    v2 = replace(LIMITS, version_2_with_negative=True)
    _, objective = make_question_answering(
        model_dir, [file], None, weights_dir=None, config=v2, batch_size=4, seed=0
    )
    assert int(objective.micro_batch(0).tensors["spans"].abs().max()) == 0


def test_windows_longer_than_the_model_are_refused(tmp_path: Path) -> None:
    model_dir = make_checkpoint(tmp_path / "model")
    long = AnsweringConfig(max_seq_length=384)
    with pytest.raises(ConfigError, match="max_seq_length: got 384, want at most"):
        make_question_answering(
            model_dir, [], None, weights_dir=None, config=long, batch_size=4, seed=0
        )
