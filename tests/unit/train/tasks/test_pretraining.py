from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bert_rt.errors import ConfigError, InputError
from bert_rt.model.checkpoint import load_model
from bert_rt.model.config import BertConfig
from tests.support.corpora import make_text, tokenizer_files, write_text
from tests.support.text import VOCAB
from train.data.phases import Phase, paper_phases
from train.loop.objective import MicroBatch, Objective
from train.tasks.pretraining import PretrainingObjective, make_pretraining
from train.tasks.pretraining_data import unigram_entropy

_CONFIG = BertConfig(
    vocab_size=len(VOCAB),
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=96,
)


def _make(
    directory: Path, config: BertConfig = _CONFIG, **arguments: object
) -> tuple[torch.nn.Module, PretrainingObjective]:
    file = directory / "a.txt"
    if not file.exists():
        write_text(file, 40)
    values: dict[str, object] = {"max_seq_length": 48, "batch_size": 8, "seed": 5}
    values |= {"held_out_fraction": 0.1} | arguments
    return make_pretraining(
        [file],
        config,
        tokenizer_files(),
        directory / "cache",
        **values,  # type: ignore[arg-type]
    )


@pytest.fixture
def made(tmp_path: Path) -> tuple[torch.nn.Module, PretrainingObjective]:
    return _make(tmp_path)


def _same(first: MicroBatch, second: MicroBatch) -> bool:
    return all(torch.equal(tensor, second.tensors[name]) for name, tensor in first.tensors.items())


def test_a_micro_batch_has_what_the_model_takes(
    made: tuple[torch.nn.Module, PretrainingObjective],
) -> None:
    _, objective = made
    task: Objective = objective
    for index in range(task.num_micro_batches):
        batch = task.micro_batch(index)
        tensors = batch.tensors
        ids = tensors["input_ids"]
        assert ids.shape[0] in (7, 8) and ids.shape[1] <= 48
        assert batch.num_tokens == int(tensors["attention_mask"].sum())
        assert batch.num_positions == ids.numel()
        assert tensors["masked_positions"].shape == tensors["masked_labels"].shape
        assert len(tensors["masked_labels"]) >= ids.shape[0]
        assert tensors["next_sentence_labels"].shape == ids.shape[:1]
        assert {tensor.dtype for tensor in tensors.values()} == {torch.int64}


def test_any_micro_batch_can_be_made_at_any_time(tmp_path: Path) -> None:
    _, forward = _make(tmp_path)
    indices = [0, 3, forward.num_micro_batches, 2 * forward.num_micro_batches + 1]
    batches = [forward.micro_batch(index) for index in indices]
    _, backward = _make(tmp_path)
    for index, batch in zip(reversed(indices), reversed(batches), strict=True):
        assert _same(batch, backward.micro_batch(index))
    _, other = _make(tmp_path, seed=6)
    assert not _same(batches[0], other.micro_batch(0))


def test_epochs_differ(made: tuple[torch.nn.Module, PretrainingObjective]) -> None:
    _, objective = made
    count = objective.num_micro_batches

    def sequences(epoch: int) -> set[str]:
        return {
            str(row.tolist())
            for index in range(count)
            for row in objective.micro_batch(epoch * count + index).tensors["input_ids"]
        }

    assert not sequences(0) & sequences(1)


def test_little_is_padding_and_no_held_out_token_is_trained_on(tmp_path: Path) -> None:
    # Documents of one word each, so that a token tells the document.
    words = [token for token in VOCAB[5:] if token.isalnum() and token.islower()][:30]
    text = "\n\n".join("\n".join([f"{word} " * 9] * 20) for word in words)
    (tmp_path / "a.txt").write_text(text)
    _, objective = _make(tmp_path)
    data = objective.data
    assert len(data.training) + len(data.held_out) == 30
    bounds = data.corpus.sentence_starts[data.corpus.document_starts]
    held_out_ids = data.corpus.tokens[bounds[data.held_out]]
    assert len(held_out_ids) >= 2
    num_tokens = num_positions = 0
    for index in range(objective.num_micro_batches):
        batch = objective.micro_batch(index)
        # Labels are the text; what is shown may be a random replacement.
        assert not np.isin(batch.tensors["masked_labels"].numpy(), held_out_ids).any()
        num_tokens += batch.num_tokens
        num_positions += batch.num_positions
    assert num_tokens / num_positions > 0.9


def test_class_1_is_a_segment_of_another_document(tmp_path: Path) -> None:
    words = "abcdefghij"
    text = "\n\n".join("\n".join([f"{word} " * 9] * 20) for word in words)
    (tmp_path / "a.txt").write_text(text)
    _, objective = _make(tmp_path, held_out_fraction=0.0)
    classes: list[int] = []
    for index in range(objective.num_micro_batches):
        tensors = objective.micro_batch(index).tensors
        ids = tensors["input_ids"].clone()
        ids.view(-1)[tensors["masked_positions"]] = tensors["masked_labels"]
        for row, types in zip(ids, tensors["token_type_ids"], strict=True):
            # Behind [CLS], and the first token of segment B.
            classes.append(int(row[1] != row[types.argmax()]))
        wanted = tensors["next_sentence_labels"].tolist()
        assert classes[-len(wanted) :] == wanted
    assert {0, 1} == set(classes)


def test_phases_follow_each_other(tmp_path: Path) -> None:
    _, objective = _make(tmp_path)
    phased = objective.with_phases(
        [
            Phase(max_seq_length=32, batch_size=8, num_micro_batches=5),
            Phase(max_seq_length=64, batch_size=4, num_micro_batches=2),
            Phase(max_seq_length=96, batch_size=2),
        ]
    )
    sizes = [len(phased.micro_batch(index).tensors["input_ids"]) for index in range(9)]
    assert all(size in (7, 8) for size in sizes[:5])
    assert all(size in (3, 4) for size in sizes[5:7])
    assert all(size in (1, 2) for size in sizes[7:])
    widths = [phased.micro_batch(index).tensors["input_ids"].shape[1] for index in range(100)]
    assert max(widths[:5]) == 32 and max(widths[5:7]) <= 64 and max(widths[7:]) == 96
    # Going back to the first phase gives the same again.
    assert _same(phased.micro_batch(1), phased.micro_batch(1))
    single = objective.with_phases([Phase(max_seq_length=32, batch_size=8)])
    assert _same(phased.micro_batch(1), single.micro_batch(1))


@pytest.mark.parametrize(
    ("total", "wanted"),
    [(1000, [(128, 900), (512, None)]), (1, [(128, None)]), (2, [(128, None)])],
)
def test_the_papers_phases(total: int, wanted: list[tuple[int, int | None]]) -> None:
    phases = paper_phases(total, 16)
    assert [(phase.max_seq_length, phase.num_micro_batches) for phase in phases] == wanted
    assert {phase.batch_size for phase in phases} == {16}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_seq_length": 4}, "max_seq_length: got 4, want at least 5"),
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"num_micro_batches": 0}, "num_micro_batches: got 0"),
    ],
)
def test_wrong_phases(fields: dict[str, int], message: str) -> None:
    good = asdict(Phase(max_seq_length=48, batch_size=8))
    with pytest.raises(ConfigError, match=message):
        Phase(**good | fields)


def test_phases_must_fit_the_model_and_each_other(tmp_path: Path) -> None:
    _, objective = _make(tmp_path)
    with pytest.raises(
        ConfigError, match=r"got 97, want at most the model's longest sequence \(96\)"
    ):
        objective.with_phases([Phase(max_seq_length=97, batch_size=8)])
    with pytest.raises(ConfigError, match="only the last one"):
        objective.with_phases([Phase(max_seq_length=48, batch_size=8)] * 2)
    with pytest.raises(ConfigError, match="got none"):
        objective.with_phases([])


def test_loss_is_that_of_the_masked_tokens_and_the_next_sentences(
    made: tuple[torch.nn.Module, PretrainingObjective],
) -> None:
    model, objective = made
    model.eval()
    tensors = objective.micro_batch(2).tensors
    loss, parts = objective.loss(model, tensors)
    # All scores, with nothing left out.
    names = ("input_ids", "attention_mask", "token_type_ids")
    mlm_BSV, nsp_B2 = model(*(tensors[name] for name in names))
    scores = mlm_BSV.flatten(0, 1)[tensors["masked_positions"]].log_softmax(-1)
    mlm = -scores[torch.arange(len(scores)), tensors["masked_labels"]].mean()
    sentences = nsp_B2.log_softmax(-1)
    nsp = -sentences[torch.arange(len(sentences)), tensors["next_sentence_labels"]].mean()
    torch.testing.assert_close(parts["mlm_loss"], mlm)
    torch.testing.assert_close(parts["nsp_loss"], nsp)
    torch.testing.assert_close(loss, mlm + nsp)
    right = scores.argmax(-1) == tensors["masked_labels"]
    assert float(parts["mlm_accuracy"]) == pytest.approx(right.float().mean().item())
    assert loss.requires_grad and not any(part.requires_grad for part in parts.values())


def test_trivial_loss_is_the_entropy_of_the_training_tokens(
    made: tuple[torch.nn.Module, PretrainingObjective],
) -> None:
    _, objective = made
    corpus = objective.data.corpus
    bounds = corpus.sentence_starts[corpus.document_starts]
    tokens = np.concatenate(
        [corpus.tokens[bounds[d] : bounds[d + 1]] for d in objective.data.training]
    )
    _, counts = np.unique(tokens, return_counts=True)
    entropy = -sum(count / len(tokens) * math.log(count / len(tokens)) for count in counts)
    assert objective.trivial_loss == pytest.approx(entropy + math.log(2))
    everything = unigram_entropy(corpus, without=np.array([], np.int64))
    assert everything != pytest.approx(entropy, abs=1e-9)


def test_training_beats_the_trivial_loss_and_both_baselines(tmp_path: Path) -> None:
    # Each document repeats one word: its neighbours tell a masked word, and another word that
    # the next segment is another document's.
    documents = [
        "\n".join([f"{word} " * (3 + number)] * (20 + number))
        for number in range(8)
        for word in "abcdefgh"
    ]
    (tmp_path / "a.txt").write_text("\n\n".join(documents))
    # Large first weights, and no dropout: the quicker it learns.
    config = replace(_CONFIG, initializer_range=0.1)
    model, objective = _make(
        tmp_path, config, max_seq_length=24, batch_size=16, held_out_fraction=0.2
    )
    model.eval()
    before = objective.evaluate(model)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    for index in range(110):
        loss, _ = objective.loss(model, objective.micro_batch(index).tensors)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = objective.evaluate(model)
    assert objective.trivial_loss is not None
    assert loss.item() < 0.5 * objective.trivial_loss
    assert before["mlm_accuracy"] < after["unigram_accuracy"] < 0.4
    assert after["mlm_accuracy"] > 0.9
    assert after["nsp_majority_accuracy"] < 0.6 < after["nsp_accuracy"]


def test_scores_are_of_held_out_text_and_do_not_depend_on_the_run(tmp_path: Path) -> None:
    model, objective = _make(tmp_path, held_out_fraction=0.3)
    model.eval()
    scores = objective.evaluate(model)
    assert objective.best_metric in scores
    assert scores["num_sequences"] > 8
    assert scores["mlm_loss"] == pytest.approx(math.log(len(VOCAB)), abs=0.5)
    _, other = _make(tmp_path, seed=6, batch_size=3, held_out_fraction=0.3)
    assert other.evaluate(model) == scores
    _, fewer = _make(tmp_path, max_held_out_sequences=7, held_out_fraction=0.3)
    assert fewer.evaluate(model)["num_sequences"] == 7
    _, none = _make(tmp_path, held_out_fraction=0.0)
    assert none.evaluate(model) == {}


def test_evaluate_averages_over_batches(tmp_path: Path) -> None:
    model, objective = _make(tmp_path)
    model.eval()
    losses: list[torch.Tensor] = []
    right: list[torch.Tensor] = []
    labels: list[torch.Tensor] = []
    for batch in objective._held_out_batches():
        tensors = batch.tensors
        names = ("input_ids", "attention_mask", "token_type_ids", "masked_positions")
        with torch.inference_mode():
            logits, nsp = model(*(tensors[name] for name in names))
        wanted = tensors["masked_labels"]
        losses.append(torch.nn.functional.cross_entropy(logits, wanted, reduction="none"))
        right.append(nsp.argmax(-1) == tensors["next_sentence_labels"])
        labels.append(wanted)
    scores = objective.evaluate(model)
    assert scores["mlm_loss"] == pytest.approx(torch.cat(losses).mean().item(), rel=1e-5)
    assert scores["nsp_accuracy"] == pytest.approx(torch.cat(right).float().mean().item())
    most = torch.bincount(torch.cat(labels)).max().item()
    assert scores["unigram_accuracy"] == most / len(torch.cat(labels))


def test_the_seed_decides_on_the_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first, _ = _make(tmp_path)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), drawn)  # The caller's generator is left alone.
    again, _ = _make(tmp_path)
    other, _ = _make(tmp_path, seed=6)
    key = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(first.state_dict()[key], again.state_dict()[key])
    assert not torch.equal(first.state_dict()[key], other.state_dict()[key])


def test_a_saved_model_is_read_back(tmp_path: Path) -> None:
    model, objective = _make(tmp_path)
    objective.save(model, tmp_path / "saved")
    loaded = load_model(tmp_path / "saved")
    assert loaded.task == "pretraining" and loaded.config == _CONFIG
    assert objective.evaluate(loaded.model) == objective.evaluate(model.eval())
    assert (tmp_path / "saved" / "tokenizer.json").is_file()


def test_whole_word_masking_is_passed_on(tmp_path: Path) -> None:
    _, objective = _make(tmp_path, whole_word_masking=True)
    assert objective.data.masking.whole_words


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt")
    small = BertConfig(vocab_size=len(VOCAB) - 1, hidden_size=64, num_attention_heads=1)
    with pytest.raises(ConfigError, match=rf"a tokenizer of {len(VOCAB)} ids"):
        make_pretraining([tmp_path / "a.txt"], small, tokenizer_files(), tmp_path / "cache")
    with pytest.raises(ConfigError, match="type_vocab_size: got 1, want at least 2 for"):
        _make(tmp_path, replace(_CONFIG, type_vocab_size=1))
    roberta = replace(_CONFIG, model_type="roberta", pad_token_id=1)
    with pytest.raises(ConfigError, match=r"got 'roberta', .* pretraining: bert$"):
        _make(tmp_path, roberta)
    with pytest.raises(ConfigError, match=r"held_out_fraction: got 1\.0"):
        _make(tmp_path, held_out_fraction=1.0)
    with pytest.raises(ConfigError, match="max_seq_length: got 128, want at most"):
        _make(tmp_path, max_seq_length=128)
    (tmp_path / "one.txt").write_text(make_text(1))
    with pytest.raises(InputError, match="got 1 documents to train on"):
        make_pretraining(
            [tmp_path / "one.txt"],
            _CONFIG,
            tokenizer_files(),
            tmp_path / "cache",
            max_seq_length=48,
        )


def test_more_may_be_masked_in_training_but_not_in_the_score(tmp_path: Path) -> None:
    _, few = _make(tmp_path)
    _, many = _make(tmp_path, mlm_probability=0.4)
    few_masked, many_masked = (
        len(objective.micro_batch(0).tensors["masked_labels"]) for objective in (few, many)
    )
    assert many_masked > 2 * few_masked
    held_out = [
        [batch.tensors["masked_labels"].tolist() for batch in objective._held_out_batches()]
        for objective in (few, many)
    ]
    assert held_out[0] == held_out[1]


@pytest.mark.parametrize("value", [0.0, -0.1, 0.9])
def test_a_share_that_cannot_be_masked_is_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(ConfigError, match=f"mlm_probability: got {value}"):
        _make(tmp_path, mlm_probability=value)
