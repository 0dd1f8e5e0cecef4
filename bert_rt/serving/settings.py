"""What a service allows: limits, deadlines and who may ask."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass

from bert_rt.errors import ConfigError

__all__ = ["Settings"]

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")  # RFC 9110, section 5.6.2
_ORIGIN = re.compile(r"\*|https?://[^/\s,]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a service allows.

    Attributes:
        token: Bearer token that every request but those for health must bring; "" for none.
        cors_origins: Origins whose pages may ask, such as "https://example.org"; "*" for all.
        max_body_bytes: Longest body of a request.
        max_unpacked_bytes: Longest body once it is unpacked (Content-Encoding: gzip).
        max_pending_bytes: Most bytes of bodies that are held for all requests together.
        max_text_chars: Longest text.
        max_items: Most inputs of one request.
        timeout_ms: Deadline of requests that name none.
        max_timeout_ms: Longest deadline that a request may name.
        hang_s: Seconds after which a batch that still runs is taken for a hang.
        client_header: A header that names who asks, such as a proxy's "X-Forwarded-For": the
            requests of one client share one turn at the engine. "" for a turn for every request.
        page: Whether there is a page at "/".
    """

    token: str = ""
    cors_origins: tuple[str, ...] = ()
    max_body_bytes: int = 8 * 2**20
    max_unpacked_bytes: int = 32 * 2**20
    max_pending_bytes: int = 256 * 2**20
    max_text_chars: int = 1_000_000
    max_items: int = 1024
    timeout_ms: int = 30_000
    max_timeout_ms: int = 300_000
    hang_s: float = 30.0
    client_header: str = ""
    page: bool = True

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: A value is out of range.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type not in ("int", "float"):
                continue
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not (value > 0 and math.isfinite(value)):
                raise ConfigError(f"{field.name}: got {value!r}, want a number above 0")
        if not self.token.isascii() or any(char.isspace() for char in self.token):
            raise ConfigError("token: got white space or a character beyond ASCII, want neither")
        if self.client_header and not _HEADER.fullmatch(self.client_header):
            raise ConfigError(
                f"client_header: got {self.client_header!r}, want the name of a header"
            )
        for origin in self.cors_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ConfigError(
                    f"cors_origins: got {origin!r}, want an origin such as https://example.org"
                )
        if self.timeout_ms > self.max_timeout_ms:
            raise ConfigError(
                f"timeout_ms: got {self.timeout_ms}, want at most max_timeout_ms "
                f"({self.max_timeout_ms})"
            )
