"""A text to sentences, by its punctuation: a rule that needs no model."""

from __future__ import annotations

import re

__all__ = ["sentence_spans", "split_sentences"]

# The end of a sentence: a full stop and what may close behind it, then what opens the next one.
_BOUNDARY = re.compile(r"[.!?]+[\"')\]\u2019\u201d]*\s+(?=[\"'(\[\u2018\u201c]*(\w))")
# What looks like an end and is none: titles, initials and abbreviations that names follow.
_ABBREVIATION = re.compile(
    r"(?:^|[^\w.])(?:[A-Z]|(?:[A-Za-z]\.)+[A-Za-z]|Mr|Mrs|Ms|Messrs|Mme|Mlle|Dr|Prof|St|Sr|Jr|Rev|Hon"
    r"|Gen|Col|Capt|Lt|Sgt|Gov|Sen|Rep|Pres|Mt|Ft|No|Nos|vs|cf|al|ca|approx|Jan|Feb|Mar|Apr|Aug"
    r"|Sept|Oct|Nov|Dec)$"
)
_ABBREVIATION_CHARS = 12
# Paragraphs end sentences, too.
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Find the sentences of a text.

    A rule for European languages, of the kind that needs no model: a sentence ends at ".", "!" or
    "?" before white space and something other than a small letter, unless an abbreviation stands
    before a lone "."; and at a blank line. Text without such ends stays in one piece.

    Args:
        text: Any text.

    Returns:
        Half-open character spans, in order, of sentences that are not empty, without the white
        space around them; all together hold every other character of the text.
    """
    ends = [match.end() for match in _BLANK_LINE.finditer(text)]
    start = 0
    for match in _BOUNDARY.finditer(text):
        if match[1].islower():
            continue
        head = text[max(start, match.start() - _ABBREVIATION_CHARS) : match.start()]
        is_lone_stop = match[0][0] == "." and match[0][1].isspace()
        if is_lone_stop and _ABBREVIATION.search(head):
            continue
        ends.append(match.end())
        start = match.end()
    spans = []
    start = 0
    for end in sorted({*ends, len(text)}):
        sentence = text[start:end]
        first = start + len(sentence) - len(sentence.lstrip())
        last = start + len(sentence.rstrip())
        if first < last:
            spans.append((first, last))
        start = end
    return spans


def split_sentences(line: str) -> list[str]:
    """Split a line into sentences, as sentence_spans finds them.

    Args:
        line: Any text; its line ends are white space.

    Returns:
        Sentences that are not empty, each with single spaces for all its white space; all
        together hold every other character of the line.
    """
    line = " ".join(line.split())
    return [line[start:end] for start, end in sentence_spans(line)]
