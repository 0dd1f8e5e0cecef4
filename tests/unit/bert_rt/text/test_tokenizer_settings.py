"""Unit tests of bert_rt.text.tokenizer_settings: what is read, what is refused by its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bert_rt.errors import ArtifactFormatError, CheckpointError
from bert_rt.tasks.text_classification.sequences import make_sequences
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import TextInput
from tests.golden.checkpoints.tokenizer_cases import CASES, TokenizerCase
from tests.support.data.text import write_vocab

_CASE = next(iter(CASES.values()))


def tokens(tokenizer: Tokenizer, text: str) -> str:
    names = {index: token for token, index in tokenizer.get_vocab().items()}
    return " ".join(names[index] for index in tokenizer.encode(text).input_ids.tolist())


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_tokens_are_those_of_transformers(case: TokenizerCase, tmp_path: Path) -> None:
    case.write(tmp_path)
    tokenizer = Tokenizer.from_directory(tmp_path)
    assert tokens(tokenizer, case.text) == case.tokens
    assert tokens(tokenizer, f"{case.text} the") == f"{case.tokens} the"
    # What the artifact holds, and the same in a batch.
    again = Tokenizer.from_bytes(tokenizer.to_json())
    assert tokens(again, case.text) == case.tokens
    (encoding,) = tokenizer.encode_batch([case.text])
    assert encoding.input_ids.tolist() == tokenizer.encode(case.text).input_ids.tolist()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_control_tokens_stay_text(case: TokenizerCase, tmp_path: Path) -> None:
    case.write(tmp_path)
    tokenizer = Tokenizer.from_directory(tmp_path)
    control = {tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, tokenizer.mask_id}
    text = "[SEP] mer[CLS] [MASK][PAD] [E1]"
    assert not control & {*tokenizer.encode(text).input_ids.tolist()}


@pytest.mark.parametrize(
    "name",
    ["HerbertTokenizer", "BertJapaneseTokenizer", "KoBertTokenizer", "AlbertTokenizerFast", 7],
)
@pytest.mark.parametrize("file", ["tokenizer_config.json", "config.json"])
def test_classes_of_another_kind_are_refused_by_name(file: str, name: Any, tmp_path: Path) -> None:
    _CASE.write(tmp_path)
    values = {"model_type": "bert", "tokenizer_class": name}
    (tmp_path / file).write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=rf"{file}: tokenizer_class: got '?{name}'?, want "):
        Tokenizer.from_directory(tmp_path)


@pytest.mark.parametrize("name", ["BertTokenizer", "BertTokenizerFast", "ElectraTokenizerFast"])
def test_the_class_of_tokenizer_config_goes_first(name: str, tmp_path: Path) -> None:
    TokenizerCase("", "", {"tokenizer_class": name}).write(tmp_path)
    values = {"model_type": "roberta", "tokenizer_class": "HerbertTokenizer"}
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert tokens(Tokenizer.from_directory(tmp_path), "Karl") == "karl"


@pytest.mark.parametrize("name", ["c3_herbert", "c3_japanese", "c3_kobert"])
def test_reported_checkpoints_are_refused_by_name(shared_dir: Path, name: str) -> None:
    wanted = {"c3_herbert": "Herbert", "c3_japanese": "BertJapanese", "c3_kobert": "KoBert"}[name]
    with pytest.raises(CheckpointError, match=f"tokenizer_class: got '{wanted}Tokenizer', want"):
        Tokenizer.from_directory(shared_dir / "cases" / name)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("do_basic_tokenize", False),
        ("never_split", ["covid19"]),
        ("word_tokenizer_type", "mecab"),
        ("subword_tokenizer_type", "character"),
        ("mecab_kwargs", {"mecab_dic": "ipadic"}),
        ("sp_model_kwargs", {"enable_sampling": True}),
        ("auto_map", {"AutoTokenizer": ["own.Own", None]}),
        ("auto_map", ["own.Own", None]),
        ("from_slow", True),
        ("fast_tokenizer_files", ["tokenizer.4.0.json"]),
        ("padding_side", "left"),
        ("truncation_side", "left"),
        ("vocab_file", "/somewhere/vocab.txt"),
        ("tokenizer_file", "/somewhere/tokenizer.json"),
        ("do_lower_case", "yes"),
        ("strip_accents", 1),
        ("tokenize_chinese_chars", None),
        ("add_prefix_space", "no"),
        ("split_special_tokens", 1),
        ("additional_special_tokens", "[E1]"),
        ("additional_special_tokens", [7]),
        ("additional_special_tokens", [{"content": "[E1]"}]),
        ("extra_special_tokens", "[E1]"),
        ("extra_special_tokens", {"a_token": 7}),
        ("cls_token", ["[CLS]"]),
        ("added_tokens_decoder", []),
        ("added_tokens_decoder", {"x": {"content": "[E1]"}}),
        ("added_tokens_decoder", {"32": "[E1]"}),
        ("added_tokens_decoder", {"32": {"content": "[E1]", "lstrip": None}}),
        ("added_tokens_decoder", {"32": {"content": "\ud800"}}),
    ],
)
def test_a_field_that_means_something_else_is_refused_by_name(
    field: str, value: Any, tmp_path: Path
) -> None:
    TokenizerCase("", "", {field: value}).write(tmp_path)
    with pytest.raises(CheckpointError, match=rf"tokenizer_config\.json: {field}.*: got .*, want"):
        Tokenizer.from_directory(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"added_tokens_decoder": {"40": {"content": "[E1]"}}}, r"got the id 40, and .* is 32"),
        (
            {
                "additional_special_tokens": [
                    {"__type": "AddedToken", "content": "[E1]", "lstrip": True},
                    {"__type": "AddedToken", "content": "[E1]", "lstrip": False},
                ]
            },
            r"added token '\[E1\]': got \(.*\) and \(.*\) for normalized, lstrip",
        ),
        ({"cls_token": "[START]"}, r"special tokens \['\[START\]'\] are not in the vocabulary"),
    ],
)
def test_added_tokens_that_contradict_each_other(
    values: dict[str, Any], message: str, tmp_path: Path
) -> None:
    TokenizerCase("", "", values).write(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        Tokenizer.from_directory(tmp_path)


def test_an_added_token_of_another_normal_form(tmp_path: Path) -> None:
    case = TokenizerCase(
        "",
        "",
        {
            "do_lower_case": False,
            "additional_special_tokens": [
                {"__type": "AddedToken", "content": "Merkel", "normalized": True}
            ],
        },
        in_json=(),
    )
    case.write(tmp_path)
    with pytest.raises(CheckpointError, match="'Merkel': got a normalizer that makes 'merkel' of"):
        Tokenizer.from_directory(tmp_path)


def test_what_tokenizer_json_is_overruled_in_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    TokenizerCase("", "", {"do_lower_case": False}, in_json=()).write(tmp_path)
    Tokenizer.from_directory(tmp_path)
    (record,) = caplog.records
    assert "tokenizer.json: lowercase is False by tokenizer_config.json" in record.getMessage()


def test_fields_that_decide_nothing_are_not_looked_at(tmp_path: Path) -> None:
    values = {"model_max_length": float("nan"), "x": 10**40, "chat_template": [1], "errors": None}
    TokenizerCase("", "", values).write(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    file.write_text('{"a": 1, "a": 2, ' + file.read_text()[1:])
    assert tokens(Tokenizer.from_directory(tmp_path), "Karl") == "karl"


def test_other_names_for_the_tokens_with_a_role(tmp_path: Path) -> None:
    names = {"[PAD]": "<p>", "[UNK]": "<u>", "[CLS]": "<c>", "[SEP]": "</c>", "[MASK]": "MASK"}
    vocab = tuple(names.get(token, token) for token in CASES["blank last line"].vocab)
    roles = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    values = {**dict(zip(roles, names.values(), strict=True)), "do_lower_case": False}
    TokenizerCase("", "", values, vocab=vocab).write(tmp_path)
    tokenizer = Tokenizer.from_directory(tmp_path)
    assert (tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, tokenizer.mask_id) == (2, 3, 0, 4)
    assert tokenizer.mask_token == "MASK"
    # A name without punctuation is a word: as text it is what the vocabulary makes of it.
    assert tokens(tokenizer, "the MASK <c>") == "the <u> <u> <u> <u>"
    # The artifact's tokenizer does the same; who the other two are it has no need to know.
    again = Tokenizer.from_bytes(tokenizer.to_json())
    assert tokens(again, "the MASK <c>") == "the <u> <u> <u> <u>"
    assert (again.cls_id, again.sep_id) == (2, 3)
    with pytest.raises(ArtifactFormatError, match=r"token '\[MASK\]' is not in the vocabulary"):
        _ = again.mask_id


def test_pieces_that_are_control_tokens_are_taken_apart(tmp_path: Path) -> None:
    from tests.support.families import write_unigram

    write_unigram(tmp_path)
    tokenizer = Tokenizer.from_directory(tmp_path)
    control = {tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, tokenizer.mask_id}
    for text in ("</s>", "the cat</s><s> <mask> <pad>"):
        encoding = tokenizer.encode(text)
        assert not control & {*encoding.input_ids.tolist()}
        assert encoding.offsets[-1, 1] == len(text)
    assert tokens(tokenizer, "a</s>") == "\u2581 a <unk> s <unk>"


def test_byte_order_marks_are_no_content(tmp_path: Path) -> None:
    from tests.support.families import write_byte_level_bpe

    case = TokenizerCase("", "", {"do_lower_case": False}, in_json=())
    case.write(tmp_path / "json")
    TokenizerCase("", "", {"do_lower_case": True}).write(tmp_path / "vocab")
    (tmp_path / "bpe").mkdir()
    write_byte_level_bpe(tmp_path / "bpe")
    (tmp_path / "bpe" / "config.json").write_text('{"model_type": "roberta"}')
    for name in ("json", "vocab", "bpe"):
        before = Tokenizer.from_directory(tmp_path / name)
        for file in (tmp_path / name).iterdir():
            file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
        after = Tokenizer.from_directory(tmp_path / name)
        assert after.to_json() == before.to_json()


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_lines_of_other_systems(end: str, tmp_path: Path) -> None:
    write_vocab(tmp_path)
    before = Tokenizer.from_directory(tmp_path)
    file = tmp_path / "vocab.txt"
    file.write_bytes(file.read_bytes().replace(b"\n", end.encode()))
    assert Tokenizer.from_directory(tmp_path).to_json() == before.to_json()


@pytest.mark.parametrize(
    ("values", "model_type", "wanted"),
    [
        ({}, "bert", 1),
        ({"tokenizer_class": "DistilBertTokenizer"}, "bert", 0),
        ({"tokenizer_class": "DistilBertTokenizerFast"}, "electra", 0),
        ({"tokenizer_class": "PreTrainedTokenizerFast"}, "bert", 1),
        ({"model_input_names": ["input_ids", "attention_mask"]}, "bert", 0),
        ({"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}, "bert", 1),
        # A model without token types does not look at them.
        ({"model_input_names": ["input_ids", "attention_mask"]}, "distilbert", 1),
    ],
)
def test_token_types_of_a_pair(
    values: dict[str, Any], model_type: str, wanted: int, tmp_path: Path
) -> None:
    TokenizerCase("", "", values, in_json=()).write(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_bytes())
    for part in content["post_processor"]["pair"][3:]:
        next(iter(part.values()))["type_id"] = 1
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    tokenizer = Tokenizer.from_directory(tmp_path)
    again = Tokenizer.from_bytes(tokenizer.to_json())
    assert tokenizer.second_type_id == again.second_type_id == wanted
    item = TextInput("karl", "the mer")
    (sequence,) = make_sequences([item], tokenizer, max_seq_length=16)
    assert sequence.token_type_ids.tolist() == [0] * 3 + [wanted] * 3


def test_input_names_that_are_none_are_refused(tmp_path: Path) -> None:
    TokenizerCase("", "", {"model_input_names": ["pixel_values"]}).write(tmp_path)
    with pytest.raises(CheckpointError, match=r"model_input_names: got \['pixel_values'\], want"):
        Tokenizer.from_directory(tmp_path)
