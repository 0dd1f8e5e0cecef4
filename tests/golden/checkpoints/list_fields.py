"""Writes fields.json: every field of the tokenizers and configurations of Transformers 4.57.6.

    .venv4/bin/python tests/golden/checkpoints/list_fields.py tests/golden/checkpoints/fields.json

The arguments of the constructors, their base classes' too, and what save_pretrained writes.
"""

import inspect
import json
import sys
import tempfile
from pathlib import Path

import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

MODELS = ("Bert", "DistilBert", "Electra", "Roberta", "XLMRoberta", "Camembert")
NOT_FIELDS = {"self", "args", "kwargs", "deprecated_kwargs"}
# Popped from the keyword arguments of the tokenizers' base classes, or read by AutoTokenizer.
BASE_TOKENIZER = [
    "added_tokens_decoder",
    "additional_special_tokens",
    "auto_map",
    "bos_token",
    "chat_template",
    "clean_up_tokenization_spaces",
    "cls_token",
    "eos_token",
    "extra_special_tokens",
    "fast_tokenizer_files",
    "from_slow",
    "gguf_file",
    "init_inputs",
    "mask_token",
    "max_len",
    "model_input_names",
    "model_max_length",
    "name_or_path",
    "pad_token",
    "padding_side",
    "processor_class",
    "sep_token",
    "split_special_tokens",
    "tokenizer_class",
    "tokenizer_file",
    "tokenizer_object",
    "truncation_side",
    "unk_token",
    "verbose",
]


def arguments(cls):
    found = set()
    for base in cls.__mro__:
        if base.__module__.startswith("transformers") and "__init__" in vars(base):
            found |= set(inspect.signature(base.__init__).parameters)
    return {name for name in found - NOT_FIELDS if not name.startswith("_")}


def saved_tokenizer(cls, directory):
    vocab = {
        token: i for i, token in enumerate(["[UNK]", "<unk>", "[CLS]", "[SEP]", "<s>", "</s>"])
    }
    backend = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer = cls(tokenizer_object=backend, additional_special_tokens=["[E1]"])
    tokenizer.add_tokens(["covid19"])
    tokenizer.save_pretrained(directory)
    return set(json.loads(Path(directory, "tokenizer_config.json").read_text()))


def main():
    tokenizer, config = set(BASE_TOKENIZER), set()
    files = set()
    for name in MODELS:
        for ending in ("Tokenizer", "TokenizerFast"):
            tokenizer |= arguments(getattr(transformers, name + ending))
        config_class = getattr(transformers, f"{name}Config")
        config |= arguments(config_class)
        with tempfile.TemporaryDirectory() as directory:
            tokenizer |= saved_tokenizer(getattr(transformers, f"{name}TokenizerFast"), directory)
            config_class().save_pretrained(directory)
            config |= set(json.loads(Path(directory, "config.json").read_text()))
            files |= {file.name for file in Path(directory).iterdir()}
        for ending in ("Tokenizer", "TokenizerFast"):
            files |= set(getattr(transformers, name + ending).vocab_files_names.values())
    japanese = transformers.models.bert_japanese.BertJapaneseTokenizer
    tokenizer |= arguments(japanese) - {"spm_file"}
    golden = {
        "transformers": transformers.__version__,
        "files": sorted(files | {"added_tokens.json", "special_tokens_map.json"}),
        "tokenizer_config.json": sorted(tokenizer),
        "config.json": sorted(config),
    }
    Path(sys.argv[1]).write_text(json.dumps(golden, indent=1) + "\n")


main()
