"""What a search may be asked for, in the names and with the defaults of Transformers 4.57.

Source: generation_config.json of Transformers; length penalty and early stopping as there.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bert_rt.errors import ConfigError, InputError

__all__ = ["GENERATION_FIELDS", "GenerationConfig"]

_MAX_BEAMS = 1024
_MAX_TOKENS = 2**20
_MAX_TOKEN_ID = 2**24
# Other ways of generating that Transformers has: what they must be, so that nothing else is asked.
_REFUSED: Mapping[str, tuple[Any, ...]] = {
    "assistant_early_exit": (None,),
    "bad_words_ids": (None, []),
    "begin_suppress_tokens": (None, []),
    "constraints": (None,),
    "diversity_penalty": (None, 0.0),
    "do_sample": (None, False),
    "dola_layers": (None,),
    "encoder_no_repeat_ngram_size": (None, 0),
    "encoder_repetition_penalty": (None, 1.0),
    "exponential_decay_length_penalty": (None,),
    "force_words_ids": (None,),
    "guidance_scale": (None, 1.0),
    "max_time": (None,),
    "num_beam_groups": (None, 1),
    "penalty_alpha": (None, 0.0),
    "prompt_lookup_num_tokens": (None,),
    "remove_invalid_values": (None, False),
    "renormalize_logits": (None, False),
    "sequence_bias": (None, {}),
    "stop_strings": (None, []),
    "suppress_tokens": (None, []),
    "token_healing": (None, False),
    "watermarking_config": (None,),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationConfig:
    """How targets are searched for.

    Lengths count tokens: max_length and min_length with the start token, max_new_tokens and
    min_new_tokens without it. Where both of a pair are given, the number of new tokens counts.

    Attributes:
        decoder_start_token_id: What every target begins with.
        eos_token_ids: Each of them ends a target.
        pad_token_id: Fills up arrays of targets of different lengths.
        num_beams: Partial targets that a search keeps; 1 is greedy search.
        num_return_sequences: Targets that are returned, best first; at most num_beams.
        max_length: Most tokens.
        max_new_tokens: Most tokens.
        min_length: Least tokens before the end token.
        min_new_tokens: Least tokens before the end token.
        length_penalty: A target's score is the sum of its log probabilities, divided by its number
            of new tokens to the power of this: above 0 longer targets gain.
        early_stopping: True ends the search of a source when num_beams targets are complete; False
            when the best partial target is not better than the worst complete one at this length;
            "never" when it cannot become better.
        no_repeat_ngram_size: No n tokens in a row stand twice in a target; 0 for no such rule.
        repetition_penalty: Above 1 makes tokens that stand in the target less likely.
        forced_bos_token_id: The token behind the start token.
        forced_eos_token_id: The last token of a target that is as long as it may be.
    """

    decoder_start_token_id: int
    eos_token_ids: tuple[int, ...]
    pad_token_id: int
    num_beams: int = 1
    num_return_sequences: int = 1
    max_length: int = 20
    max_new_tokens: int | None = None
    min_length: int = 0
    min_new_tokens: int | None = None
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    no_repeat_ngram_size: int = 0
    repetition_penalty: float = 1.0
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | None = None

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            InputError: A field is out of range, or two do not go together.
        """
        self._check_tokens()
        _check_int("num_beams", self.num_beams, 1, _MAX_BEAMS)
        _check_int("num_return_sequences", self.num_return_sequences, 1, self.num_beams)
        # The start token is one of max_length: with less than 2 nothing could be written.
        _check_int("max_length", self.max_length, 2 if self.max_new_tokens is None else 0)
        _check_int("min_length", self.min_length, 0)
        _check_int("no_repeat_ngram_size", self.no_repeat_ngram_size, 0)
        if self.max_new_tokens is not None:
            _check_int("max_new_tokens", self.max_new_tokens, 1)
        if self.min_new_tokens is not None:
            _check_int("min_new_tokens", self.min_new_tokens, 0)
        for name in ("length_penalty", "repetition_penalty"):
            _check_number(name, getattr(self, name))
        if self.repetition_penalty <= 0:
            got = self.repetition_penalty
            raise InputError(f"repetition_penalty: got {got!r}, want a number above 0")
        stop: Any = self.early_stopping
        if not isinstance(stop, bool) and stop != "never":
            raise InputError(f"early_stopping: got {stop!r}, want True, False or 'never'")
        if self.least_length > self.longest:
            raise InputError(
                f"min_length: got at least {self.least_length} tokens and at most {self.longest}, "
                "the start token included; want no more than the second"
            )

    def _check_tokens(self) -> None:
        tokens = {"decoder_start_token_id": self.decoder_start_token_id}
        tokens["pad_token_id"] = self.pad_token_id
        for name in ("forced_bos_token_id", "forced_eos_token_id"):
            if getattr(self, name) is not None:
                tokens[name] = getattr(self, name)
        for name, token in tokens.items():
            _check_int(name, token, 0, _MAX_TOKEN_ID)
        if not self.eos_token_ids:
            raise InputError("eos_token_id: got none, want at least one")
        for token in self.eos_token_ids:
            _check_int("eos_token_id", token, 0, _MAX_TOKEN_ID)

    @property
    def longest(self) -> int:
        """Most tokens of a target, the start token included."""
        return self.max_length if self.max_new_tokens is None else self.max_new_tokens + 1

    @property
    def least_length(self) -> int:
        """Least tokens of a target before its end token, the start token included."""
        return self.min_length if self.min_new_tokens is None else self.min_new_tokens + 1

    def limited(self, max_target_length: int) -> GenerationConfig:
        """Return this with no more tokens than a model has positions for."""
        if self.longest <= max_target_length:
            return self
        least = min(self.least_length, max_target_length)
        return dataclasses.replace(
            self,
            max_length=max_target_length,
            max_new_tokens=None,
            min_length=least,
            min_new_tokens=None,
        )

    def updated(self, values: Mapping[str, Any]) -> GenerationConfig:
        """Return this with what a caller asks for.

        Args:
            values: Fields by name; None leaves a field as it is. eos_token_id may be given, too. A
                max_length without max_new_tokens replaces an earlier max_new_tokens, and so do the
                least lengths.

        Returns:
            The configuration.

        Raises:
            InputError: A field is unknown or out of range, or asks for another way of generating.
        """
        given = {name: value for name, value in values.items() if value is not None}
        unknown = sorted(set(given) - set(GENERATION_FIELDS) - set(_REFUSED))
        if unknown:
            raise InputError(f"arguments: got {unknown}, which are unknown here")
        return dataclasses.replace(self, **_fields(given))

    @classmethod
    def from_values(
        cls, values: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
    ) -> GenerationConfig:
        """Make a configuration of what a checkpoint says.

        Args:
            values: generation_config.json; what is none of the fields above changes nothing.
            defaults: What holds where the checkpoint is silent, such as the token ids of the model.

        Returns:
            The configuration.

        Raises:
            ConfigError: A field is out of range, or asks for another way of generating.
        """
        known = (*GENERATION_FIELDS, *_REFUSED)
        given = {n: v for n, v in values.items() if n in known and v is not None}
        try:
            return cls(**{**_fields(defaults or {}), **_fields(given)})
        except InputError as error:
            raise ConfigError(f"generation_config.json: {error}") from error


GENERATION_FIELDS = (
    *(f.name for f in dataclasses.fields(GenerationConfig) if f.name != "eos_token_ids"),
    "eos_token_id",
)


def _fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn names of Transformers into fields; refuse other ways of generating."""
    for name, allowed in _REFUSED.items():
        if name in values and values[name] not in allowed:
            raise InputError(
                f"{name}: got {values[name]!r}, want {allowed[-1]!r}: only greedy and beam search "
                "without it are done here"
            )
    fields = {name: value for name, value in values.items() if name not in _REFUSED}
    if "eos_token_id" in fields:
        tokens = fields.pop("eos_token_id")
        fields["eos_token_ids"] = tuple(tokens) if isinstance(tokens, list | tuple) else (tokens,)
    # What is said here of a length goes before what was said before of its other form.
    for length, new in (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens")):
        if length in fields and new not in fields:
            fields[new] = None
    return fields


def _check_int(name: str, value: Any, low: int, high: int = _MAX_TOKENS) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{name}: got {value!r}, want an integer from {low} to {high}")


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{name}: got {value!r}, want a number")
