"""python -m train.vocab: train a WordPiece vocabulary."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers, trainers

from bert_rt.errors import ConfigError, EmptyInputError
from bert_rt.support.cli import int_at_least, make_parser, run_command
from bert_rt.support.files import atomic_directory, atomic_write_bytes
from bert_rt.support.progress import progress
from bert_rt.text.tokenization import Tokenizer
from train.data.bpe import SPECIAL_TOKENS
from train.data.text import read_lines

__all__ = ["SPECIAL_TOKENS", "main", "train_vocabulary"]

_CONTINUATION = "##"


def train_vocabulary(
    corpus: Sequence[Path],
    *,
    vocab_size: int,
    cased: bool = False,
    min_frequency: int = 2,
    max_alphabet: int = 1000,
) -> Mapping[str, bytes]:
    """Train a WordPiece vocabulary. The same text and sizes give the same bytes.

    Args:
        corpus: Text files, plain or .gz.
        vocab_size: Most tokens of the vocabulary, special tokens and single characters included;
            there are fewer where the corpus has no more pairs to merge.
        cased: Whether case and accents are kept.
        min_frequency: A pair of pieces that occurs less often is not merged.
        max_alphabet: Most distinct characters; words with rarer ones become [UNK].

    Returns:
        Contents of tokenizer.json, vocab.txt and tokenizer_config.json by name; SPECIAL_TOKENS
        have the ids from 0.

    Raises:
        InputError: A file cannot be read or is not UTF-8.
        EmptyInputError: There are no words in the files.
        ConfigError: The vocabulary is too small to hold the alphabet.
    """
    backend = Backend(models.WordPiece(unk_token="[UNK]"))
    normalizer = normalizers.BertNormalizer(lowercase=not cased)
    backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    alphabet = _alphabet(corpus, normalizer, max_alphabet)
    if not alphabet:
        raise EmptyInputError(f"{_names(corpus)}: got no words, want text")
    pieces = [_CONTINUATION + letter for letter in alphabet if _can_continue(letter, normalizer)]
    smallest = len(SPECIAL_TOKENS) + len(alphabet) + len(pieces)
    if vocab_size < smallest:
        raise ConfigError(
            f"vocab_size: got {vocab_size}, want at least {smallest} for the {len(alphabet)} "
            "characters of the corpus"
        )
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        # The trainer numbers continuations in the order in which a hash table lists the words,
        # and breaks ties of merges by number: two runs would differ. Special tokens are numbered
        # first and in their order, so continuations are passed as such.
        special_tokens=[*SPECIAL_TOKENS, *pieces],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        continuing_subword_prefix=_CONTINUATION,
        show_progress=False,
    )
    backend.train_from_iterator(_shown_lines(corpus), trainer)
    merged = sorted(backend.get_vocab().items(), key=lambda item: item[1])[smallest:]
    return _tokenizer_files(
        [*SPECIAL_TOKENS, *alphabet, *pieces, *(token for token, _ in merged)], cased=cased
    )


def _names(corpus: Sequence[Path]) -> str:
    return ", ".join(map(str, corpus))


def _shown_lines(corpus: Sequence[Path]) -> Iterator[str]:
    with progress("vocabulary", total=None, unit="lines") as shown:
        for file in corpus:
            for line in read_lines(file):
                yield line
                shown.advance()


def _alphabet(
    corpus: Sequence[Path], normalizer: normalizers.BertNormalizer, max_alphabet: int
) -> list[str]:
    """Return the most frequent characters of the normalized text, in the order of code points."""
    raw: Counter[str] = Counter()
    for file in corpus:
        for line in read_lines(file):
            raw.update(line)
    counts: Counter[str] = Counter()
    for letter, count in raw.items():
        # BERT's normalizer works on one character at a time, so it may be asked so.
        for normalized in normalizer.normalize_str(letter):
            if not normalized.isspace():
                counts[normalized] += count
    ranked = sorted(counts, key=lambda letter: (-counts[letter], letter))
    return sorted(ranked[:max_alphabet])


def _can_continue(letter: str, normalizer: normalizers.BertNormalizer) -> bool:
    """Tell whether a word may go on with a character: punctuation and Chinese stand alone."""
    text = normalizer.normalize_str("a" + letter)
    return len(pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text)) == 1


def _tokenizer_files(vocab: Sequence[str], *, cased: bool) -> dict[str, bytes]:
    options = {
        "cls_token": "[CLS]",
        "do_lower_case": not cased,
        "mask_token": "[MASK]",
        "model_max_length": 512,
        "pad_token": "[PAD]",
        "sep_token": "[SEP]",
        # None strips accents where letters are lower-cased.
        "strip_accents": None,
        "tokenize_chinese_chars": True,
        "tokenizer_class": "BertTokenizer",
        "unk_token": "[UNK]",
    }
    files = {
        "vocab.txt": "".join(f"{token}\n" for token in vocab).encode(),
        "tokenizer_config.json": (json.dumps(options, indent=2) + "\n").encode(),
    }
    # tokenizer.json is what the library's own reader makes of the other two.
    with TemporaryDirectory() as directory:
        for name, content in files.items():
            Path(directory, name).write_bytes(content)
        files["tokenizer.json"] = Tokenizer.from_directory(directory).to_json()
    return files


def main(argv: Sequence[str]) -> int:
    """Train a vocabulary as the command line says.

    Args:
        argv: The arguments.

    Returns:
        0; every failure is an exception.
    """
    parser = make_parser("train.vocab", "Train a WordPiece vocabulary on text.")
    parser.add_argument(
        "--corpus", required=True, nargs="+", metavar="F", type=Path, help="text, plain or .gz"
    )
    parser.add_argument("--vocab_size", type=int_at_least(1), default=30522, metavar="N")
    parser.add_argument("--output_dir", required=True, metavar="DIR", type=Path)
    parser.add_argument("--cased", action="store_true", help="keep case and accents")
    parser.add_argument("--min_frequency", type=int_at_least(1), default=2, metavar="N")
    args = parser.parse_args(argv)

    if args.output_dir.exists() and not args.output_dir.is_dir():
        raise ConfigError(f"--output_dir: {args.output_dir} is not a directory")
    files = train_vocabulary(
        args.corpus,
        vocab_size=args.vocab_size,
        cased=args.cased,
        min_frequency=args.min_frequency,
    )
    _write(args.output_dir, files)
    num_tokens = files["vocab.txt"].count(b"\n")
    print(f"{args.output_dir}: {num_tokens} tokens, {'cased' if args.cased else 'uncased'}")
    return 0


def _write(directory: Path, files: Mapping[str, bytes]) -> None:
    if directory.is_dir() and any(directory.iterdir()):
        for name, content in files.items():
            atomic_write_bytes(directory / name, content)
        return
    with atomic_directory(directory) as staged:
        for name, content in files.items():
            (staged / name).write_bytes(content)


if __name__ == "__main__":
    sys.exit(run_command(main))
