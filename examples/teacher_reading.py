"""How the stand-in teacher reads a ticket: it weighs the words that it knows, and takes the heaviest category.

It sees the text and nothing else. Like a model it is sampled: a temperature above 0 adds noise to the weights
(Gumbel noise on scores is sampling from their softmax), so close calls come out one way or the other.
"""

import math
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from rapidfuzz import fuzz

from examples.teacher_lexicon import ASIDE_WORDS, CATEGORY_WORDS, NORMAL_PRIORITY_WEIGHT, PRIORITY_WORDS

_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"})
_WORD = re.compile(r"[a-z0-9]+(?:-[a-z]+)*")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+|,\s+")
_FUZZY_FROM_LETTERS = 5  # shorter words are too alike to forgive a typo
_ALIKE = 85.0  # rapidfuzz ratio, of 100
_ASIDE_SHARE = 0.95
_CATEGORY_NOISE = 0.31
_PRIORITY_NOISE = 0.15
_SUMMARY_WORDS = 6


@dataclass(frozen=True)
class Reading:
    """What the teacher makes of a ticket; the summary has at most six words of the ticket itself."""

    category: str
    priority: str
    summary: str


class _Clue(NamedTuple):
    """An entry of the lexicon that speaks for `label`, a category or a priority."""

    label: str
    entry: str
    weight: float


_CLUES = tuple(
    _Clue(label, entry, weight)
    for labels in (CATEGORY_WORDS, PRIORITY_WORDS)
    for label, entries in labels.items()
    for entry, weight in entries.items()
)


def read(text: str, temperature: float, draw: random.Random) -> Reading:
    """The teacher's reading of `text`; at temperature 0 it does not touch `draw` and is always the same."""
    sentences = [sentence.strip() for sentence in _SENTENCE.split(text) if sentence.strip()] or [""]
    clues = [_clues_in(sentence) for sentence in sentences]
    weights = [_category_weights(sentence, found) for sentence, found in zip(sentences, clues, strict=True)]
    category_scores = {name: sum(weight[name] for weight in weights) for name in CATEGORY_WORDS}
    priority_scores = {**_weigh(frozenset().union(*clues), PRIORITY_WORDS), "normal": NORMAL_PRIORITY_WEIGHT}
    category = _pick(category_scores, temperature * _CATEGORY_NOISE, draw)
    priority = _pick(priority_scores, temperature * _PRIORITY_NOISE, draw)
    _, telling = max(zip(weights, sentences, strict=True), key=lambda pair: pair[0][category])
    return Reading(category, priority, " ".join(telling.split()[:_SUMMARY_WORDS]).rstrip(".,;:!?"))


def _pick(scores: Mapping[str, float], noise: float, draw: random.Random) -> str:
    if noise <= 0:
        return max(scores, key=lambda name: scores[name])
    shaken = {name: score - noise * math.log(-math.log(draw.random() or 0.5)) for name, score in scores.items()}
    return max(shaken, key=lambda name: shaken[name])


def _category_weights(sentence: str, clues: frozenset[_Clue]) -> dict[str, float]:
    words = " ".join(_words(sentence))
    share = _ASIDE_SHARE if any(aside in words for aside in ASIDE_WORDS) else 1.0
    return {name: share * weight for name, weight in _weigh(clues, CATEGORY_WORDS).items()}


def _weigh(clues: frozenset[_Clue], labels: Iterable[str]) -> dict[str, float]:
    """The weight for each of `labels`; sorted, so that the sum does not hang on the order of a set."""
    weights = dict.fromkeys(labels, 0.0)
    for clue in sorted(clues):
        if clue.label in weights:
            weights[clue.label] += clue.weight
    return weights


def _clues_in(sentence: str) -> frozenset[_Clue]:
    return frozenset(clue for term in _terms(sentence) for clue in _clues_of(term))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower().translate(_UMLAUTS))


def _terms(text: str) -> Iterator[str]:
    """Every word and every pair of neighbours."""
    words = _words(text)
    yield from words
    yield from (f"{first} {second}" for first, second in pairwise(words))


@lru_cache(maxsize=100_000)
def _clues_of(term: str) -> tuple[_Clue, ...]:
    return tuple(clue for clue in _CLUES if _matches(term, clue.entry))


def _matches(term: str, entry: str) -> bool:
    if (" " in term) != (" " in entry):
        return False
    if len(entry) < _FUZZY_FROM_LETTERS:
        return term == entry or (len(entry) > 3 and term.startswith(entry))
    return term.startswith(entry) or fuzz.ratio(term[: len(entry) + 1], entry, score_cutoff=_ALIKE) > 0
