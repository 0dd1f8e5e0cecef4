"""tokenizer.json as the library's tokenizer.

A module of its own, beside tokenizer_files, which reads checkpoints: an artifact needs nothing of
that, and its first answer should not wait for the import.
"""

from __future__ import annotations

import tokenizers

from bert_rt.errors import ArtifactFormatError

__all__ = ["backend_from_bytes"]


def backend_from_bytes(tokenizer_json: bytes) -> tokenizers.Tokenizer:
    """Read a tokenizer.json.

    Args:
        tokenizer_json: The file's bytes.

    Returns:
        The library's tokenizer.

    Raises:
        ArtifactFormatError: The library cannot read it.
    """
    try:
        return tokenizers.Tokenizer.from_buffer(tokenizer_json.removeprefix(b"\xef\xbb\xbf"))
    except Exception as error:  # The library raises plain Exception for some damage.
        raise ArtifactFormatError(f"tokenizer.json: cannot be read: {error}") from error
