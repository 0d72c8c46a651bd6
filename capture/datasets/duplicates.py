"""Near-duplicates among texts: word shingles, MinHash signatures, banded look-up (Broder 1997; Leskovec, Rajaraman and
Ullman, Mining of Massive Datasets, chapter 3). The same texts in the same order always give the same verdicts."""

import re
from collections.abc import Sequence
from typing import Any

import rensa

PERMUTATIONS = 128
SEED = 20_240_501
WORDS = 3  # a shingle
CHARACTERS = 8  # a shingle of a text that is not written in words
LONG_WORD = 24
CANDIDATES = 256
"""How many candidates are compared: among texts that all share a template, a band finds very many."""

_DETECTED = 0.99  # of pairs exactly at the threshold, by the bands
_WORD = re.compile(r"\w+")


def shingles(text: str) -> list[str]:
    """Runs of three words, casefolded, at least one; runs of characters where the script does not part words."""
    words = _WORD.findall(text.casefold())
    if any(len(word) > LONG_WORD and not word.isascii() for word in words):
        joined = "".join(words)
        return [joined[start : start + CHARACTERS] for start in range(max(1, len(joined) - CHARACTERS + 1))]
    return [" ".join(words[start : start + WORDS]) for start in range(max(1, len(words) - WORDS + 1))]


def signatures(texts: Sequence[str]) -> list[Any]:
    """One MinHash signature a text; the share of equal places in two estimates their shingles' Jaccard similarity."""
    return list(rensa.RMinHash.from_token_sets([shingles(text) for text in texts], PERMUTATIONS, SEED))


def bands(threshold: float) -> int:
    """The fewest bands, of those that divide the permutations, that find nearly all pairs at the threshold."""
    for count in (1, 2, 4, 8, 16, 32, 64):
        rows = PERMUTATIONS // count
        if 1 - (1 - threshold**rows) ** count >= _DETECTED:
            return count
    return PERMUTATIONS


class NearIndex:
    """Signatures that others are compared with. About 1 kB each in memory."""

    def __init__(self, threshold: float) -> None:
        """`threshold`: the Jaccard similarity from which on two texts are near-duplicates, in (0, 1]."""
        self._threshold = threshold
        self._index = rensa.RMinHashLSH(threshold, PERMUTATIONS, bands(threshold))
        self._signatures: list[Any] = []

    def has_near(self, signature: Any) -> bool:
        """Whether a near-duplicate of this signature was added."""
        candidates = self._index.query(signature)
        nearest = candidates if len(candidates) <= CANDIDATES else sorted(candidates)[:CANDIDATES]
        return any(signature.jaccard(self._signatures[key]) >= self._threshold for key in nearest)

    def add(self, signature: Any) -> None:
        self._index.insert(len(self._signatures), signature)
        self._signatures.append(signature)
