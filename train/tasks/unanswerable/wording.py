"""What English words are, as far as counting tells: names, numbers, words of one kind.

Two words are of one kind where the same words stand around them ("in Paris", "in Rome"), or where
"and" and "or" join them ("men and women").
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

__all__ = ["Span", "WordKinds", "content_words", "number_kind", "words_of"]

_WORD = re.compile(r"\w+(?:['\u2019.,-]\w+)*%?")
_STOP_WORDS = """
    a about after all also an and any are as at be been before being between both but by can
    could did do does during each for from had has have he her his how i if in into is it its
    like made many may more most much name no not of on one only or other out over s she so
    some such than that the their them then there these they this those through time to type
    under up used was were what when where which while who whom whose why will with would year
"""
# What joins the words of one name.
_JOINTS = "da de del der di du la le of van von"
_MONTHS = """
    january february march april may june july august september october november december
"""
_DAYS = "monday tuesday wednesday thursday friday saturday sunday"
_NUMBERS = (
    (re.compile(r"1[1-9]\d\d|20[0-2]\d"), "year"),
    (re.compile(r"\d{2,4}s"), "decade"),
    (re.compile(r"\d+(?:st|nd|rd|th)"), "ordinal"),
    (re.compile(r"\d[\d.,]*%"), "percent"),
    (re.compile(r"\d{1,2}"), "small"),
    (re.compile(r"\d+\.\d+"), "decimal"),
    (re.compile(r"\d[\d.,]*"), "number"),
)
_COUNTS = "two three four five six seven eight nine ten eleven twelve twenty"
_RANKS = "second third fourth fifth sixth seventh eighth ninth tenth"
_NUMBER_WORDS = {**dict.fromkeys(_COUNTS.split(), "count"), **dict.fromkeys(_RANKS.split(), "rank")}
_SENTENCE_END = re.compile(r"[.!?:\n]")
_STOP = frozenset(_STOP_WORDS.split())
_JOINED = frozenset(_JOINTS.split())
_DATES = {**dict.fromkeys(_MONTHS.split(), "month"), **dict.fromkeys(_DAYS.split(), "day")}
# Joined less often than this, two words are hardly of one kind.
_MIN_JOINED = 3


class Span(NamedTuple):
    """A name or a number in a text.

    Attributes:
        start: Its first character.
        end: One past the last.
        text: What stands there.
        kind: "name", "month", "day", or what number_kind says.
    """

    start: int
    end: int
    text: str
    kind: str


def words_of(text: str) -> list[str]:
    """List the words and numbers of a text, in small letters."""
    return [match[0].lower() for match in _WORD.finditer(text)]


def content_words(text: str) -> set[str]:
    """List the words of a text that say what it is about."""
    return {word for word in words_of(text) if word not in _STOP}


def number_kind(word: str) -> str:
    """Tell what kind of number a word is; "" where it is none."""
    if not word[:1].isdigit():
        return _NUMBER_WORDS.get(word, "")
    return next((kind for pattern, kind in _NUMBERS if pattern.fullmatch(word)), "")


class WordKinds:
    """What a collection of texts tells of its words."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Count the words of all texts.

        Args:
            texts: The collection; the more, the more is known of each word.
        """
        # But for those at the beginning of a sentence, where all have a capital.
        self._counts: Counter[str] = Counter()
        self._joined: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for text in texts:
            for match in _WORD.finditer(text):
                self._counts[match[0]] += not _begins_sentence(text, match)
        # By name: what stands around it, and how often.
        places: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for text in texts:
            self._join(_WORD.findall(text))
            for span in self.spans(text):
                places[span.text].update(_around(text, span))
        self._vectors = _vectors(places)

    def _join(self, words: Iterable[str]) -> None:
        first = joint = ""
        for word in words:
            if joint in ("and", "or") and first.islower() and word.islower():
                self._joined[first][word] += 1
                self._joined[word][first] += 1
            first, joint = joint, word

    def _is_name(self, text: str, match: re.Match[str]) -> bool:
        """Tell whether a word with a capital has it not only for beginning a sentence."""
        word = match[0]
        if not word[0].isupper() or word == "I":
            return False
        if not _begins_sentence(text, match):
            return True
        return self._counts[word] > self._counts[word.lower()] or (len(word) > 1 and word.isupper())

    def spans(self, text: str) -> Iterator[Span]:
        """Find names and numbers.

        Args:
            text: Any text.

        Yields:
            Each of them, from left to right. A name is a run of its words, those that join them
            within; a possessive ending is no part of it.
        """
        run: list[re.Match[str]] = []
        joints: list[re.Match[str]] = []
        for match in _WORD.finditer(text):
            previous = (joints or run)[-1:]
            is_next = bool(previous) and text[previous[0].end() : match.start()] == " "
            if is_next and match[0] in _JOINED:
                joints.append(match)
                continue
            is_name = self._is_name(text, match)
            if is_next and is_name:
                run += [*joints, match]
            else:
                if run:
                    yield _name(text, run)
                run = [match] if is_name else []
            joints = []
            if not is_name and (kind := number_kind(match[0])):
                yield Span(*match.span(), match[0], kind)
        if run:
            yield _name(text, run)

    def likeness(self, name: str, other: str) -> float:
        """Measure how much two names are of one kind.

        Args:
            name: A name as spans gives it.
            other: Another one.

        Returns:
            The cosine of what stands around them, rare words weighing more; from 0 to 1.
        """
        vector, longer = self._vectors.get(name, {}), self._vectors.get(other, {})
        if len(vector) > len(longer):
            vector, longer = longer, vector
        return sum(weight * longer[place] for place, weight in vector.items() if place in longer)

    def joined_with(self, word: str, *, most: int) -> list[str]:
        """List the words that "and" and "or" join with a word.

        Args:
            word: A word in small letters.
            most: How many words to list at most.

        Returns:
            Those that go with it more than their number alone explains, the closest first; forms
            of the word itself are left out.
        """
        joined = self._joined.get(word, Counter())
        rated = [
            (-count / math.sqrt(self._counts[other]), other)
            for other, count in joined.items()
            if count >= _MIN_JOINED and other[:4] != word[:4] and not _is_plain(other)
        ]
        return [other for _, other in sorted(rated)[:most]]


def _around(text: str, span: Span) -> list[str]:
    """List what tells of a name's kind: its neighbours in small letters, its end, its length."""
    before = _WORD.findall(text[max(0, span.start - 24) : span.start])
    after = _WORD.search(text, span.end)
    last = span.text.rpartition(" ")[2]
    around = [f"last {last}", f"end {last[-3:]}", f"words {span.text.count(' ')}"]
    if before and before[-1].islower():
        around.append(f"before {before[-1]}")
    if after and after.start() == span.end + 1 and after[0].islower():
        around.append(f"after {after[0]}")
    return around


def _vectors(places: Mapping[str, Counter[str]]) -> dict[str, dict[str, float]]:
    """Weigh what stands around names, and bring all to length 1."""
    seen = Counter(place for around in places.values() for place in around)
    # A word beside many names says little of their kind, and one beside a single name nothing.
    rarity = {place: math.log(len(places) / count) for place, count in seen.items() if count > 1}
    vectors = {}
    for name, around in places.items():
        vector = {p: math.log1p(count) * rarity[p] for p, count in around.items() if p in rarity}
        length = math.sqrt(sum(weight * weight for weight in vector.values())) or 1.0
        vectors[name] = {place: weight / length for place, weight in vector.items()}
    return vectors


def _begins_sentence(text: str, match: re.Match[str]) -> bool:
    start = match.start()
    return start == 0 or _SENTENCE_END.search(text, max(0, start - 3), start) is not None


def _is_plain(word: str) -> bool:
    return word in _STOP or bool(number_kind(word))


def _name(text: str, run: Sequence[re.Match[str]]) -> Span:
    start, end = run[0].start(), run[-1].end()
    for ending in ("'s", "\u2019s"):
        end -= len(ending) * text.endswith(ending, start, end)
    name = text[start:end]
    return Span(start, end, name, _DATES.get(name.lower(), "name"))
