"""Measures of likeness between two texts, each in [0, 1], over their first LONGEST characters."""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from rapidfuzz import fuzz

from capture.graders.sample import normal

LONGEST = 10_000
"""Two of the measures take time in proportion to the product of the lengths."""

_WORD = re.compile(r"\w+|[^\w\s]")


def words(text: str) -> list[str]:
    """Words and punctuation marks, normalised."""
    return _WORD.findall(normal(text[:LONGEST]))


def ngrams(tokens: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1))


def fuzzy_match(output: str, reference: str) -> float:
    """1 minus the insertions and deletions between the normalised texts, over their lengths (rapidfuzz's ratio)."""
    return fuzz.ratio(normal(output[:LONGEST]), normal(reference[:LONGEST])) / 100


def cosine(output: str, reference: str) -> float:
    """The cosine of the angle between the two texts' word counts."""
    left, right = Counter(words(output)), Counter(words(reference))
    dot = sum(count * right[word] for word, count in left.items())
    norm = math.sqrt(sum(n * n for n in left.values()) * sum(n * n for n in right.values()))
    return min(1.0, dot / norm) if norm else float(left == right)


def bleu(output: str, reference: str) -> float:
    """BLEU of one sentence up to 4-grams, smoothed by adding one from 2-grams on (Lin & Och 2004, Papineni 2002)."""
    left, right = words(output), words(reference)
    if not left or not right:
        return float(left == right)
    logs = 0.0
    for size in range(1, 5):
        matched, total = _matched(left, right, size)[:2]
        smooth = 0 if size == 1 else 1
        if matched + smooth == 0:
            return 0.0
        logs += math.log((matched + smooth) / (total + smooth)) / 4
    return math.exp(logs + min(0.0, 1 - len(right) / len(left)))


def gleu(output: str, reference: str) -> float:
    """The lesser of precision and recall over all 1- to 4-grams together (Wu et al. 2016, section 4)."""
    left, right = words(output), words(reference)
    matched, made, wanted = (
        sum(part) for part in zip(*(_matched(left, right, size) for size in range(1, 5)), strict=True)
    )
    return matched / max(made, wanted) if max(made, wanted) else 1.0


def rouge_n(size: int, output: str, reference: str) -> float:
    """ROUGE-N: the F1 of shared n-grams (Lin 2004). Texts too short for one n-gram: whether they are the same."""
    left, right = words(output), words(reference)
    matched, made, wanted = _matched(left, right, size)
    return 2 * matched / (made + wanted) if made + wanted else float(left == right)


def rouge_l(output: str, reference: str) -> float:
    """ROUGE-L: the F1 of the longest common subsequence of words (Lin 2004)."""
    left, right = words(output), words(reference)
    if not left or not right:
        return float(left == right)
    row = [0] * (len(right) + 1)
    for word in left:
        diagonal = 0
        for column, other in enumerate(right, 1):
            above = row[column]
            row[column] = diagonal + 1 if word == other else max(above, row[column - 1])
            diagonal = above
    return 2 * row[-1] / (len(left) + len(right))


def meteor(output: str, reference: str) -> float:
    """METEOR with exact matches alone, without stems and synonyms (Banerjee & Lavie 2005).

    The mean of precision and recall, recall nine times as heavy, less up to a half for words in another order.
    """
    left, right = words(output), words(reference)
    if not left or not right:
        return float(left == right)
    places: dict[str, list[int]] = {}
    for place, word in enumerate(right):
        places.setdefault(word, []).append(place)
    aligned = [places[word].pop(0) if places.get(word) else None for word in left]
    matched = sum(place is not None for place in aligned)
    if not matched:
        return 0.0
    pairs = zip([None, *aligned], aligned, strict=False)
    chunks = sum(place is not None and (before is None or place != before + 1) for before, place in pairs)
    precision, recall = matched / len(left), matched / len(right)
    mean = 10 * precision * recall / (recall + 9 * precision)
    penalty = 0.0 if chunks == 1 and matched == len(left) == len(right) else 0.5 * (chunks / matched) ** 3
    return mean * (1 - penalty)


def _matched(left: Sequence[str], right: Sequence[str], size: int) -> tuple[int, int, int]:
    made, wanted = ngrams(left, size), ngrams(right, size)
    return (made & wanted).total(), made.total(), wanted.total()


METRICS: dict[str, Callable[[str, str], float]] = {
    "fuzzy_match": fuzzy_match,
    "cosine": cosine,
    "bleu": bleu,
    "gleu": gleu,
    "meteor": meteor,
    "rouge_l": rouge_l,
    **{f"rouge_{size}": partial(rouge_n, size) for size in range(1, 6)},
}
