"""Questions over another paragraph than their own, or over their own without the answer.

Both look for any trace of the answer first: what is left must not hold it in other words, either.

Source: BM25, Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework", section 3.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from bert_rt.tasks.question_answering.squad import SquadExample
from bert_rt.text.sentences import split_sentences
from train.tasks.unanswerable.wording import content_words, number_kind, words_of

__all__ = ["Article", "holds_answer", "without_answer"]

# How soon more of the same word stops to count, and how much long paragraphs are held back.
_K1 = 1.2
_B = 0.75
# A paragraph that shares one word with the question is not about it.
_MIN_SHARED = 2
# What is left of a paragraph must still be one.
_MIN_SENTENCES = 2


def holds_answer(text: str, answers: Sequence[str]) -> bool:
    """Tell whether a text may hold an answer.

    Args:
        text: A paragraph.
        answers: The gold answers.

    Returns:
        Whether one of them stands there, or all words that carry its content do, or a number
        of it does.
    """
    lower = text.lower()
    words = set(words_of(text))
    for answer in answers:
        content = content_words(answer)
        if answer.lower() in lower or (content and content <= words):
            return True
        if any(number_kind(word) and word in words for word in words_of(answer)):
            return True
    return False


def without_answer(example: SquadExample) -> str | None:
    """Take the sentences with the answer out of a paragraph.

    Args:
        example: The question, with its answers.

    Returns:
        The other sentences, in one line; None where too few are left or one may hold the answer.
    """
    answers = [" ".join(answer.split()) for answer in example.answers]
    sentences = split_sentences(example.context)
    left = [s for s in sentences if not any(answer in s for answer in answers)]
    text = " ".join(left)
    if not _MIN_SENTENCES <= len(left) < len(sentences) or holds_answer(text, example.answers):
        return None
    return text


class Article:
    """The paragraphs of one article, to be searched by words."""

    def __init__(self, contexts: Sequence[str]) -> None:
        """Count the words.

        Args:
            contexts: The paragraphs.
        """
        self.contexts = contexts
        lengths = []
        # By word: in which paragraphs it stands, and how often.
        self._places: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for index, context in enumerate(contexts):
            counts = Counter(words_of(context))
            lengths.append(counts.total())
            for word, count in counts.items():
                self._places[word].append((index, count))
        mean = sum(lengths) / len(lengths)
        self._penalties = [_K1 * (1 - _B + _B * length / mean) for length in lengths]

    def closest(self, example: SquadExample) -> Iterator[int]:
        """Find other paragraphs that a question seems to be about, but that do not answer it.

        Args:
            example: The question, with its answers.

        Yields:
            Indices into contexts, the closest paragraph first. Each shares at least two words of
            content with the question, and has a number where the answer has one.
        """
        scores: defaultdict[int, float] = defaultdict(float)
        num_shared: Counter[int] = Counter()
        # Sorted: sums of floats depend on their order, and that of a set on the process.
        for word in sorted(content_words(example.question)):
            places = self._places.get(word, [])
            rarity = math.log(1 + (len(self.contexts) - len(places) + 0.5) / (len(places) + 0.5))
            for index, count in places:
                scores[index] += rarity * count * (_K1 + 1) / (count + self._penalties[index])
                num_shared[index] += 1
        wants_number = any(map(number_kind, words_of(example.answers[0])))
        for index in sorted(scores, key=lambda index: (-scores[index], index)):
            context = self.contexts[index]
            if num_shared[index] < _MIN_SHARED or holds_answer(context, example.answers):
                continue
            if not wants_number or any(map(number_kind, words_of(context))):
                yield index
