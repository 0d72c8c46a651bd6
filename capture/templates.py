"""Which templates a set of prompts was filled from: groups of prompts by the runs of words that they share. Pure.

A prompt is a set of features: its runs of three words, the words that its lines begin with, and, near its beginning,
pairs of words with one between them and single words. What many prompts share is a template's; what few share is a
filling's.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from capture.prompts import masked

Floats = NDArray[np.float32]
Features = frozenset[int]

HEAD_WORDS, TAIL_WORDS = 300, 60
"""Of each part of a prompt: fillings may be long documents."""

LEAST_FEATURES = 4
LEAST_PROMPTS = 10
OF_CORE = 0.7
"""The part of a template's features that a prompt filled from it has."""

_RUN = 3
_SKIPPING, _NEAR = 40, 12
_SHARED = 0.8  # of the prompts of a group have a feature of its core
_DEEPER = 0.5  # a group is divided where a part of it shares so much more than all of it
_MOST_FEATURES = 1500
_ALIKE = 0.65
_HEAD, _TAIL = 12_000, 4_000  # characters
_WORD = re.compile(r"<\w+>|\w+|[^\w\s]")


class Prompt:
    """One prompt: (name, text) parts, such as the system prompt and the user's first turn; long texts are cut."""

    def __init__(self, parts: Iterable[tuple[str, str]]) -> None:
        self.parts = tuple((name, _cut(text)) for name, text in parts)
        self.features: Features = frozenset(one for name, text in self.parts for one, _ in _spans(name, _lines(text)))

    def fixed(self, core: Features) -> list[tuple[str, bool]]:
        """Its words, and whether each belongs to the template of that core."""
        return [one for name, text in self.parts for one in _fixed(name, _lines(text), core)]

    def fixed_words(self, core: Features) -> int:
        return sum(kept for _, kept in self.fixed(core))

    def template(self, core: Features) -> str:
        """What belongs to the template, part by part, as written; each filling as `…`."""
        return "\n".join(_shown(_fixed(name, _lines(text), core)) for name, text in self.parts)


@dataclass(frozen=True)
class Group:
    """A template's features, how many words are fixed by it, and the places of the prompts filled from it."""

    core: Features
    words: int
    members: tuple[int, ...]


def _fixed(name: str, lines: list[list[str]], core: Features) -> list[tuple[str, bool]]:
    words = [word for line in lines for word in line]
    covered = [False] * len(words)
    for one, places in _spans(name, lines):
        if one in core:
            for place in places:
                covered[place] = True
    return list(zip(words, covered, strict=True))


def _shown(words: Iterable[tuple[str, bool]]) -> str:
    shown: list[str] = []
    for word, kept in words:
        if kept or not shown or shown[-1] != "…":
            shown.append(word if kept else "…")
    return re.sub(r" ([.,;:!?)\]}])", r"\1", " ".join(shown))


def belongs(prompt: Features, core: Features) -> bool:
    return len(prompt & core) >= OF_CORE * len(core)


def alike(prompt: Prompt, core: Features, other: Features, words: int) -> bool:
    """Whether two templates are one: most of the fixed words of either (of the other: `words`) are both's."""
    return prompt.fixed_words(core & other) >= _ALIKE * max(prompt.fixed_words(core), words)


def groups(prompts: Sequence[Prompt], least: int = LEAST_PROMPTS) -> list[Group]:
    """Templates that at least `least` of the prompts were filled from; each prompt in one of them or in none."""
    found: list[Group] = []
    rest = list(range(len(prompts)))
    while len(rest) >= least:
        core = _core([prompts[place].features for place in rest], least)
        members = tuple(place for place in rest if belongs(prompts[place].features, core)) if core else ()
        if len(members) < least:
            break
        _add(found, Group(core, prompts[members[0]].fixed_words(core), members), prompts[members[0]])
        rest = sorted(set(rest) - set(members))
    return found


def _add(found: list[Group], new: Group, first: Prompt) -> None:
    """Adds a group, or takes it into the one that it is alike: a filling that came often looked like a template."""
    for place, known in enumerate(found):
        if alike(first, new.core, known.core, known.words):
            core = new.core & known.core
            found[place] = Group(core, first.fixed_words(core), (*known.members, *new.members))
            return
    found.append(new)


def _core(prompts: Sequence[Features], least: int) -> Features:
    """The features of the template that explains most of these prompts; empty where they share too little."""
    counts = Counter(feature for prompt in prompts for feature in prompt)
    frequent = sorted((-count, feature) for feature, count in counts.items() if count >= least)[:_MOST_FEATURES]
    columns = {feature: column for column, (_, feature) in enumerate(frequent)}
    table = np.zeros((len(prompts), len(columns)), dtype=np.float32)
    for row, prompt in enumerate(prompts):
        table[row, [columns[feature] for feature in prompt if feature in columns]] = 1
    core = np.zeros(len(columns), dtype=bool)
    while (deeper := _deeper(table, int(core.sum()), least)) is not None:
        table, core = table[table[:, deeper] > 0], _common(table[table[:, deeper] > 0])
    chosen = [frequent[column][1] for column in np.flatnonzero(core)]
    return frozenset(chosen) if len(chosen) >= LEAST_FEATURES else frozenset()


def _deeper(table: Floats, core: int, least: int) -> int | None:
    """The feature whose prompts share most: their number times that of the features beside it, if those are enough."""
    if not table.size:
        return None
    together = table.T @ table
    having = np.diag(together)
    sizes = (together >= _SHARED * np.maximum(having, 1)[:, None]).sum(axis=1)
    enough = (having >= least) & (sizes >= max(LEAST_FEATURES, (1 + _DEEPER) * core)) & (sizes > core)
    if not enough.any():
        return None
    return int(np.argmax(np.where(enough, having * sizes, 0)))


def _common(table: Floats) -> NDArray[np.bool_]:
    return np.asarray(table.mean(axis=0) >= _SHARED)


def _cut(text: str) -> str:
    return text if len(text) <= _HEAD + _TAIL else f"{text[:_HEAD]}\n{text[-_TAIL:]}"


def _lines(text: str) -> list[list[str]]:
    """The words of each line, what varies masked; long texts by their beginning and end."""
    lines = [words for line in text.splitlines() if (words := _WORD.findall(masked(line)))]
    total = sum(map(len, lines))
    if total <= HEAD_WORDS + TAIL_WORDS:
        return lines
    head = _first(lines, HEAD_WORDS)
    tail = _first([line[::-1] for line in reversed(lines)], TAIL_WORDS)
    return head + [line[::-1] for line in reversed(tail)]


def _first(lines: list[list[str]], most: int) -> list[list[str]]:
    kept: list[list[str]] = []
    for line in lines:
        kept.append(line[:most])
        most -= len(line)
        if most <= 0:
            break
    return kept


def _spans(name: str, lines: list[list[str]]) -> Iterator[tuple[int, Sequence[int]]]:
    """Each feature with the places of its words."""
    words = [word.casefold() for line in lines for word in line]
    for place in range(len(words) - _RUN + 1):
        yield _hashed(name, "run", *words[place : place + _RUN]), range(place, place + _RUN)
    for place in range(min(_SKIPPING, len(words) - 2)):
        yield _hashed(name, "skip", words[place], words[place + 2]), (place, place + 2)
    for place, word in enumerate(words[:_NEAR]):
        yield _hashed(name, "near", word), (place,)
    start = 0
    for number, line in enumerate(lines):
        for size in range(1 if number == 0 else 2, min(_RUN, len(line)) + 1):
            kind = "line" if number else "begins"
            yield _hashed(name, kind, *words[start : start + size]), range(start, start + size)
        start += len(line)


def _hashed(*feature: str) -> int:
    text = "\0".join(feature).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=6).digest(), "little")
