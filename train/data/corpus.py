"""Raw text to token ids on the disk: tokenized once, then mapped into memory.

A cached corpus is a directory: `tokens.bin` (all ids, document after document), where each
sentence starts in it (`sentences.bin`), where each document starts among the sentences
(`documents.bin`), a hash of each document's text (`hashes.bin`), all little-endian, and
`corpus.json`, which says what they are and their SHA-256. Its name is a hash of what it was made
from, so that another text, tokenizer or setting makes another directory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, TypeAlias

import numpy as np
import tokenizers
from numpy.typing import NDArray

from bert_rt.errors import EmptyInputError, InputError
from bert_rt.support.files import atomic_directory, atomic_write_json
from bert_rt.support.progress import progress
from bert_rt.text.tokenization import Tokenizer
from train.data.text import read_documents

__all__ = ["Corpus", "CorpusReport", "open_corpus", "prepare_corpus", "tokenizer_backend"]

Ids: TypeAlias = "NDArray[np.uint16] | NDArray[np.uint32]"

_FORMAT = "bert-rt-corpus"
_VERSION = 1
_MANIFEST = "corpus.json"
_ARRAYS = ("tokens", "sentences", "documents", "hashes")

# Longer documents are cut: what is read ahead stays below some megabytes.
_MAX_DOCUMENT_SENTENCES = 10_000
# Fewer tokens than this are a page number or a heading, and cannot make two segments.
_MIN_DOCUMENT_TOKENS = 16
# Sentences tokenized at once: enough to keep all cores busy, little enough to hold twice.
_BATCH_SENTENCES = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusReport:
    """What became of the text.

    Attributes:
        num_documents: Documents kept.
        num_sentences: Sentences in them.
        num_tokens: Tokens in them, without special tokens.
        num_unknown_tokens: How many of these are [UNK].
        num_duplicate_documents: Documents dropped because their text came before, white space
            and line ends aside.
        num_short_documents: Documents dropped because they had almost no tokens.
    """

    num_documents: int
    num_sentences: int
    num_tokens: int
    num_unknown_tokens: int
    num_duplicate_documents: int
    num_short_documents: int

    def summary(self) -> str:
        """Return one line for people."""
        unknown = self.num_unknown_tokens / max(self.num_tokens, 1)
        return (
            f"{self.num_documents} documents, {self.num_sentences} sentences, "
            f"{self.num_tokens} tokens ({unknown:.2%} unknown); dropped "
            f"{self.num_duplicate_documents} duplicate and {self.num_short_documents} "
            "near-empty documents"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """Tokenized documents, mapped into memory and read-only.

    Attributes:
        tokens: Ids of all sentences, shape (num_tokens,), uint16 or uint32.
        sentence_starts: Where sentence s begins in tokens, shape (num_sentences + 1,), int64;
            its end is where the next one begins.
        document_starts: Where document d begins in the sentences, shape (num_documents + 1,),
            int64.
        document_hashes: The first 64 bits of a hash of each document's text, uint64; no two
            are equal.
        report: Counts of what was kept and dropped.
    """

    tokens: Ids
    sentence_starts: NDArray[np.int64]
    document_starts: NDArray[np.int64]
    document_hashes: NDArray[np.uint64]
    report: CorpusReport

    def split(self, held_out_fraction: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Divide the documents into those to train on and those to hold out.

        A document's side depends on its own text alone, so it stays where it is when documents
        are added or moved. There are no duplicates, hence none of a held-out document is trained
        on.

        Args:
            held_out_fraction: The share to hold out, from 0 to less than 1. Of four documents or
                more at least two are held out, those of the smallest hashes, unless it is 0.

        Returns:
            Ascending document numbers of both sides, int64: training, held out.
        """
        threshold = np.uint64(min(int(held_out_fraction * 2.0**64), 2**64 - 1))
        is_held_out = self.document_hashes < threshold
        # Next-sentence prediction needs a second document to draw from.
        if held_out_fraction > 0 and is_held_out.sum() < 2 and len(is_held_out) >= 4:
            is_held_out[np.argsort(self.document_hashes)[:2]] = True
        return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def tokenizer_backend(tokenizer_files: Mapping[str, bytes]) -> tokenizers.Tokenizer:
    """Make the library's own tokenizer, which encodes without character spans.

    Args:
        tokenizer_files: Contents by name, as checkpoint.read_tokenizer_files gives them.

    Returns:
        A tokenizer that encodes special tokens in the text as text.

    Raises:
        CheckpointError: There is no usable tokenizer in the files.
    """
    with TemporaryDirectory() as directory:
        for name, content in tokenizer_files.items():
            Path(directory, name).write_bytes(content)
        checked = Tokenizer.from_directory(directory)
    backend = tokenizers.Tokenizer.from_buffer(checked.to_json())
    backend.encode_special_tokens = True
    return backend


def prepare_corpus(
    files: Sequence[Path], tokenizer_files: Mapping[str, bytes], cache_dir: Path
) -> Corpus:
    """Tokenize text files, or find them in the cache.

    Args:
        files: Text files, plain or .gz, in the form that train.data.text reads.
        tokenizer_files: The tokenizer, contents by name.
        cache_dir: Where the directory of this corpus is, or is made.

    Returns:
        The corpus; its arrays are mapped from the cache.

    Raises:
        InputError: A file cannot be read or is not UTF-8 (the message names file, line and
            byte), or the cached corpus is damaged.
        EmptyInputError: No document is left.
        CheckpointError: There is no usable tokenizer in tokenizer_files.
    """
    backend = tokenizer_backend(tokenizer_files)
    directory = cache_dir / f"corpus-{_key(files, backend)[:16]}"
    if not directory.exists():
        try:
            with atomic_directory(directory) as staged:
                _write(staged, files, backend)
        except FileExistsError:
            pass  # Another process of the same run was faster; what it wrote is the same.
    return open_corpus(directory)


def _key(files: Sequence[Path], backend: tokenizers.Tokenizer) -> str:
    key = hashlib.sha256()
    settings = [_VERSION, _MAX_DOCUMENT_SENTENCES, _MIN_DOCUMENT_TOKENS, len(files)]
    key.update(json.dumps(settings).encode())
    key.update(hashlib.sha256(backend.to_str().encode()).digest())
    try:
        for file in files:
            # The suffix says how the bytes are read.
            key.update(bytes([file.suffix == ".gz"]) + bytes.fromhex(_sha256(file)))
    except OSError as error:
        where = error.filename
        raise InputError(f"{where}: cannot be read: {error.strerror or error}") from error
    return key.hexdigest()


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _write(directory: Path, files: Sequence[Path], backend: tokenizers.Tokenizer) -> None:
    """Tokenize the files into a directory."""
    dtype = np.dtype("<u2" if backend.get_vocab_size() <= 1 << 16 else "<u4")
    unknown_id = backend.token_to_id("[UNK]")
    counts = dict.fromkeys(CorpusReport.__dataclass_fields__, 0)
    streams: dict[str, IO[bytes]] = {}
    try:
        for name in _ARRAYS:
            streams[name] = (directory / f"{name}.bin").open("wb")
        for name in ("sentences", "documents"):
            streams[name].write(np.zeros(1, "<i8").tobytes())
        for digest, sentences in _tokenized(files, backend, counts):
            ids = np.concatenate(sentences)
            ends = counts["num_tokens"] + np.cumsum([len(sentence) for sentence in sentences])
            counts["num_documents"] += 1
            counts["num_sentences"] += len(sentences)
            counts["num_tokens"] += len(ids)
            counts["num_unknown_tokens"] += int(np.count_nonzero(ids == unknown_id))
            streams["tokens"].write(ids.astype(dtype).tobytes())
            streams["sentences"].write(ends.astype("<i8").tobytes())
            streams["documents"].write(np.array([counts["num_sentences"]], "<i8").tobytes())
            streams["hashes"].write(digest)
    finally:
        for stream in streams.values():
            stream.close()
    if not counts["num_documents"]:
        raise EmptyInputError(
            f"{', '.join(map(str, files))}: got no document of at least {_MIN_DOCUMENT_TOKENS} "
            "tokens, want text"
        )
    manifest = {
        "format": _FORMAT,
        "version": _VERSION,
        "token_bytes": dtype.itemsize,
        "report": counts,
        "sources": [str(file) for file in files],
        "sha256": {name: _sha256(directory / f"{name}.bin") for name in _ARRAYS},
    }
    atomic_write_json(directory / _MANIFEST, manifest)


def _tokenized(
    files: Sequence[Path], backend: tokenizers.Tokenizer, counts: dict[str, int]
) -> Iterator[tuple[bytes, list[NDArray[np.int64]]]]:
    """Yield each kept document: 8 bytes of its hash, and the ids of its sentences."""
    with progress("corpus", total=None, unit="documents") as shown:
        for batch in _batches(files, counts):
            # On all cores, while this thread waits without the GIL.
            encoded = iter(
                backend.encode_batch_fast(
                    [sentence for _, document in batch for sentence in document],
                    add_special_tokens=False,
                )
            )
            for digest, document in batch:
                shown.advance()
                sentences = [
                    np.array(ids, np.int64)
                    # A sentence of control characters has no tokens.
                    for ids in (next(encoded).ids for _ in document)
                    if ids
                ]
                if sum(map(len, sentences)) < _MIN_DOCUMENT_TOKENS:
                    counts["num_short_documents"] += 1
                else:
                    yield digest, sentences


def _batches(
    files: Sequence[Path], counts: dict[str, int]
) -> Iterator[list[tuple[bytes, list[str]]]]:
    """Yield documents that were not seen before, with their hashes, some thousand sentences."""
    seen: set[bytes] = set()
    batch: list[tuple[bytes, list[str]]] = []
    num_sentences = 0
    for document in read_documents(files, max_sentences=_MAX_DOCUMENT_SENTENCES):
        digest = hashlib.blake2b(" ".join(document).encode(), digest_size=8).digest()
        if digest in seen:
            counts["num_duplicate_documents"] += 1
            continue
        seen.add(digest)
        batch.append((digest, document))
        num_sentences += len(document)
        if num_sentences >= _BATCH_SENTENCES:
            yield batch
            batch, num_sentences = [], 0
    if batch:
        yield batch


def open_corpus(directory: Path) -> Corpus:
    """Open a cached corpus after checking every byte of it.

    Args:
        directory: A directory that prepare_corpus made.

    Returns:
        The corpus.

    Raises:
        InputError: Something is missing, of another format, or not what was written.
    """
    try:
        return _open(directory)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{directory}: a damaged corpus cache ({error}); remove the directory, and it is "
            "made again"
        ) from error


def _open(directory: Path) -> Corpus:
    manifest: dict[str, Any] = json.loads((directory / _MANIFEST).read_bytes())
    if (manifest["format"], manifest["version"]) != (_FORMAT, _VERSION):
        raise ValueError(f"{_MANIFEST}: got another format than {_FORMAT} {_VERSION}")
    report = CorpusReport(**manifest["report"])
    wanted = {
        "tokens": (f"<u{manifest['token_bytes']}", report.num_tokens),
        "sentences": ("<i8", report.num_sentences + 1),
        "documents": ("<i8", report.num_documents + 1),
        "hashes": ("<u8", report.num_documents),
    }
    arrays: dict[str, NDArray[Any]] = {}
    for name, (dtype, length) in wanted.items():
        file = directory / f"{name}.bin"
        if _sha256(file) != manifest["sha256"][name]:
            raise ValueError(f"{file.name}: SHA-256 differs from {_MANIFEST}")
        # As a plain array: every slice of a memmap object costs a microsecond more.
        arrays[name] = np.memmap(file, dtype, "r", shape=(length,)).view(np.ndarray)
    for name, last in (("sentences", report.num_tokens), ("documents", report.num_sentences)):
        starts = arrays[name]
        if starts[0] != 0 or starts[-1] != last or np.any(np.diff(starts) <= 0):
            raise ValueError(f"{name}.bin: not ascending from 0 to {last}")
    return Corpus(
        arrays["tokens"], arrays["sentences"], arrays["documents"], arrays["hashes"], report
    )
