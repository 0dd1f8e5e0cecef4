"""Questions changed by a word or a name, so that their paragraph no longer answers them.

What is put in must not be what the paragraph answers just as well: it never stands in a sentence
with the answer, nor in one with half of the question's other words.

Source: the kinds are those of Rajpurkar et al. 2018, arXiv:1806.03822, section 4 and table 2; swaps
    alone serve nearly as well as models that write questions: Gautam et al. 2023, arXiv:2310.19403.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from bert_rt.tasks.question_answering.squad import SquadExample
from bert_rt.text.sentences import split_sentences
from train.tasks.unanswerable.wording import Span, WordKinds, content_words, words_of

__all__ = ["EDITS", "Passage", "edit_question"]

# Paragraphs that are searched where the question's own has nothing; and how many of the closest
# names are drawn from, so that one name of an article does not stand for all others.
_MAX_OTHERS = 12
_NUM_CLOSEST = 4
# The least likeness of names that may be exchanged.
_LIKE = 0.15
_NAME_KINDS = ("name", "month", "day")
_STEM = 4
_MAX_JOINED = 8
_MAX_YEARS_APART = 9

_OPPOSITES = """
    first/last earliest/latest oldest/newest oldest/youngest older/younger before/after
    begin/end began/ended beginning/end start/end started/ended
    most/least more/fewer more/less majority/minority largest/smallest biggest/smallest
    larger/smaller greater/lesser greatest/least large/small big/little high/low higher/lower
    highest/lowest longest/shortest longer/shorter tallest/shortest best/worst better/worse
    strong/weak stronger/weaker strongest/weakest hot/cold warm/cool wet/dry rich/poor
    early/late earlier/later new/old modern/ancient north/south northern/southern east/west
    eastern/western northeast/southwest northwest/southeast left/right upper/lower top/bottom
    above/below inside/outside internal/external inner/outer nearest/farthest
    maximum/minimum maximal/minimal increase/decrease increased/decreased increases/decreases
    increasing/decreasing rise/fall rose/fell grew/shrank gain/loss gained/lost win/lose won/lost
    victory/defeat accepted/rejected accept/reject allow/forbid allowed/forbidden
    permitted/prohibited legal/illegal lawful/unlawful
    supported/opposed supporters/opponents agree/disagree agreed/disagreed
    success/failure succeeded/failed successful/unsuccessful positive/negative good/bad
    advantage/disadvantage advantages/disadvantages benefit/harm benefits/harms
    male/female males/females men/women man/woman boys/girls husband/wife father/mother
    son/daughter brother/sister king/queen parents/children child/adult
    public/private domestic/foreign national/international rural/urban
    import/export imports/exports imported/exported buy/sell bought/sold
    born/killed birth/death alive/dead arrive/leave arrived/left enter/leave entered/left
    open/close opened/closed add/remove added/removed include/exclude included/excluded
    join/leave joined/left build/destroy built/destroyed created/destroyed
    common/rare popular/unpopular major/minor famous/unknown easy/difficult
    simple/complex fast/slow faster/slower heavy/light heavier/lighter
    similar/different same/different always/never with/without
    winter/summer day/night morning/evening
    primary/secondary liberal/conservative friend/enemy ally/enemy allies/enemies
    attack/defend attacked/defended attacking/defending direct/indirect formal/informal
    active/passive visible/invisible possible/impossible likely/unlikely
    complete/incomplete able/unable necessary/unnecessary
"""
# After these a word asks for a measure ("how old"), or is part of a phrase ("at least").
_NO_OPPOSITE_AFTER = ("how", "at", "as", "the same")

_AUXILIARY = re.compile(
    r"\b(did|does|do|was|were|is|are|has|had|could|would|should|can|will) (\w+)", re.IGNORECASE
)
_SHORT_FORMS = {"can": "can't", "will": "won't"}
_PARTICIPLE = re.compile(
    r"\w{2,}(?:ed|en|ing)|made|known|found|used|built|held|sold|sent|told|born"
)
_ARTICLE = re.compile(r"(\b[Aa])n? $")
_NEGATION = re.compile(r"n't\b| (?:not|never)\b", re.IGNORECASE)


def _opposites() -> Mapping[str, tuple[str, ...]]:
    table: dict[str, tuple[str, ...]] = {}
    for pair in _OPPOSITES.split():
        one, other = pair.split("/")
        table[one] = (*table.get(one, ()), other)
        table[other] = (*table.get(other, ()), one)
    return table


_OPPOSITES_OF = _opposites()


@dataclass(frozen=True)
class Passage:
    """A paragraph with what can be exchanged in questions on it. Computed once, when it is needed.

    Attributes:
        context: The paragraph.
        questions: All questions on it, in small letters.
        kinds: What is known of words.
    """

    context: str
    questions: frozenset[str]
    kinds: WordKinds

    @cached_property
    def sentences(self) -> list[tuple[str, set[str]]]:
        """The sentences in small letters, each with its words."""
        texts = [sentence.lower() for sentence in split_sentences(self.context)]
        return [(text, set(words_of(text))) for text in texts]

    @cached_property
    def words(self) -> set[str]:
        """All words of the paragraph, in small letters."""
        return set(words_of(self.context))

    @cached_property
    def spans(self) -> list[Span]:
        """Names and numbers, each text once."""
        return list({span.text: span for span in self.kinds.spans(self.context)}.values())

    @cached_property
    def lower(self) -> str:
        """The paragraph in small letters."""
        return self.context.lower()

    def may_hold(self, new: str, rest: set[str], answers: Iterable[str]) -> bool:
        """Tell whether a changed question may have an answer here after all.

        Args:
            new: What was put into the question.
            rest: The other words of the question that carry content.
            answers: The gold answers of the question as it was.

        Returns:
            Whether a sentence holds what was put in and an answer, or half of the other words.
        """
        new = new.lower()
        golds = [answer.lower() for answer in answers]
        return any(
            _stands_in(new, text)
            and (any(gold in text for gold in golds) or 2 * len(rest & words) >= len(rest))
            for text, words in self.sentences
        )


def _stands_in(words: str, text: str) -> bool:
    """Tell whether words stand in a text as whole words; in quick steps."""
    return words in text and re.search(rf"\b{re.escape(words)}\b", text) is not None


def edit_question(
    kind: str,
    example: SquadExample,
    passage: Passage,
    article: Sequence[Passage],
    rng: random.Random,
) -> str | None:
    """Change a question so that its paragraph does not answer it.

    Args:
        kind: A name in EDITS.
        example: The question, with its answers.
        passage: Its paragraph.
        article: All paragraphs of the article.
        rng: Draws among what is equally good.

    Returns:
        The changed question, which nobody asks of this paragraph; None where there is none.
    """
    for start, end, new in EDITS[kind](example, passage, article, rng):
        old = example.question[start:end]
        new = new[:1].upper() + new[1:] if old[:1].isupper() else new
        head = _ARTICLE.sub(f"\\1{'n' * (new[:1] in 'aeiou')} ", example.question[:start])
        question = head + new + example.question[end:]
        question = question[:1].upper() + question[1:] if start == 0 else question
        if question.lower() in passage.questions:
            continue
        rest = content_words(example.question[:start] + " " + example.question[end:])
        # A negation stands for itself; anything else is looked for in the paragraph.
        if kind == "negation" or not passage.may_hold(new, rest, example.answers):
            return question
    return None


_Changes = Iterator[tuple[int, int, str]]


def _swap_names(
    example: SquadExample, passage: Passage, article: Sequence[Passage], rng: random.Random
) -> _Changes:
    """Put another name of the paragraph, or else of the article, in a name's place."""
    kinds = passage.kinds
    asked = set(words_of(example.question))
    answered = set(words_of(" ".join(example.answers)))
    for span in _shared_spans(example, passage, rng):
        if span.kind not in _NAME_KINDS:
            continue
        words = set(words_of(span.text))
        for names in _spans_near(passage, article, rng):
            rated = sorted(
                (-kinds.likeness(span.text, other.text), other.text)
                for other in names
                if other.kind == span.kind and not _overlap(other.text, words, asked, answered)
            )
            # All of them about as like as the closest.
            least = max(_LIKE, -rated[0][0] / 2) if rated else _LIKE
            closest = [name for rate, name in rated[:_NUM_CLOSEST] if -rate > least]
            rng.shuffle(closest)
            for name in closest:
                if not _may_be_one(span.text, name, article):
                    yield span.start, span.end, name


@lru_cache(maxsize=2**16)
def _word_set(name: str) -> frozenset[str]:
    return frozenset(words_of(name))


def _overlap(other: str, words: set[str], asked: set[str], answered: set[str]) -> bool:
    """Tell whether a name is one with another or part of it, of the question or of an answer."""
    others = _word_set(other)
    if len(others) == len(words) == 1 and other[:_STEM].lower() == min(words)[:_STEM]:
        return True  # "China" and "Chinese"
    return others <= asked or others >= words or bool(others & answered)


def _may_be_one(name: str, other: str, article: Sequence[Passage]) -> bool:
    """Tell whether a longer name holds both, as a person's first and last name."""
    return any(name in s.text and other in s.text for p in article for s in p.spans)


def _spans_near(
    passage: Passage, article: Sequence[Passage], rng: random.Random
) -> Iterator[Sequence[Span]]:
    """Yield what the paragraph has, then what some others of the article have and it has not."""
    yield passage.spans
    others = rng.sample(article, min(len(article), _MAX_OTHERS))
    spans = {span.text: span for other in others for span in other.spans}
    yield [span for text, span in spans.items() if text.lower() not in passage.lower]


def _swap_numbers(
    example: SquadExample, passage: Passage, article: Sequence[Passage], rng: random.Random
) -> _Changes:
    """Put another number of its kind in a number's place, one of the paragraph where it can be."""
    taken = _taken(example)
    for span in _shared_spans(example, passage, rng):
        if span.kind in _NAME_KINDS:
            continue
        for numbers in _spans_near(passage, article, rng):
            others = [
                other.text
                for other in numbers
                if other.kind == span.kind and other.text.lower() not in taken
            ]
            rng.shuffle(others)
            yield from ((span.start, span.end, number) for number in others)
        if span.kind == "year":
            apart = rng.randint(1, _MAX_YEARS_APART) * rng.choice((-1, 1))
            yield span.start, span.end, str(int(span.text) + apart)


def _shared_spans(example: SquadExample, passage: Passage, rng: random.Random) -> list[Span]:
    """List the names and numbers of a question that its paragraph has, too."""
    found = [
        span
        for span in passage.kinds.spans(example.question)
        if _stands_in(span.text.lower(), passage.lower)
    ]
    rng.shuffle(found)
    return found


def _taken(example: SquadExample) -> set[str]:
    """Collect the words of question and answers: none of them is put in."""
    return set(words_of(" ".join((example.question, *example.answers))))


def _swap_opposites(
    example: SquadExample, passage: Passage, article: Sequence[Passage], rng: random.Random
) -> _Changes:
    """Turn a word into its opposite."""
    taken = _taken(example)
    matches = list(re.finditer(r"(?<!-)\b\w+", example.question))
    rng.shuffle(matches)
    for match in matches:
        before = example.question[: match.start()].lower().rstrip()
        if before.endswith(_NO_OPPOSITE_AFTER):
            continue
        others = [other for other in _OPPOSITES_OF.get(match[0].lower(), ()) if other not in taken]
        rng.shuffle(others)
        yield from ((match.start(), match.end(), other) for other in others)


def _swap_nouns(
    example: SquadExample, passage: Passage, article: Sequence[Passage], rng: random.Random
) -> _Changes:
    """Put in a word that "and" or "or" joins with one of the question elsewhere in the file."""
    taken = _taken(example)
    shared = content_words(example.question) & passage.words
    matches = [m for m in re.finditer(r"[a-z]{3,}", example.question) if m[0] in shared]
    rng.shuffle(matches)
    for match in matches:
        if match.start() and example.question[match.start() - 1].isalnum():
            continue
        for other in passage.kinds.joined_with(match[0], most=_MAX_JOINED):
            if other not in taken:
                yield match.start(), match.end(), other


def _negate(
    example: SquadExample, passage: Passage, article: Sequence[Passage], rng: random.Random
) -> _Changes:
    """Put a negation in, or take one out."""
    question = example.question
    if match := _NEGATION.search(question):
        yield match.start(), match.end(), ""
        return
    match = _AUXILIARY.search(question)
    if match is None:
        return
    verb = match[1]
    if _PARTICIPLE.fullmatch(match[2]):
        yield match.end(1), match.end(1), rng.choice((" not", " never"))
    else:
        yield match.start(1), match.end(1), _SHORT_FORMS.get(verb.lower(), f"{verb}n't")


EDITS: Mapping[
    str, Callable[[SquadExample, Passage, Sequence[Passage], random.Random], _Changes]
] = {
    "name": _swap_names,
    "number": _swap_numbers,
    "opposite": _swap_opposites,
    "noun": _swap_nouns,
    "negation": _negate,
}
"""How a question can be changed, by name; each yields start, end and what is put there."""
