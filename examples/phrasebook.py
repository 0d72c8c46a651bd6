"""The shape of a phrasebook: the parts from which the tickets of one language are put together.

A phrase is a small grammar: `[a|b|]` picks one alternative (empty ones too, nested ones too) and `{name}` fills a
slot: one of the phrasebook's words of that name, or a number made up on the spot.
"""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Topic:
    """What people write when a ticket is about one category."""

    problems: tuple[str, ...]  # the reason for writing, one sentence each
    details: tuple[str, ...]  # what else they tell about it
    asks: tuple[str, ...]  # what they want done
    mentions: tuple[str, ...]  # the same topic as a thing of the past, a clause that starts in lower case


@dataclass(frozen=True)
class Phrasebook:
    """All parts of one language."""

    topics: Mapping[str, Topic]
    priorities: Mapping[str, tuple[str, ...]]  # sentences that tell how much it hurries
    greetings: tuple[str, ...]
    backgrounds: tuple[str, ...]
    bridges: tuple[str, ...]  # join {mention} and {problem} of an ambiguous ticket
    closings: tuple[str, ...]
    words: Mapping[str, tuple[str, ...]]  # what a slot can be filled with
    asking: tuple[str, ...]  # the first words of a question
    plain_letters: Mapping[str, str]  # how hurried people spell the letters that their keyboard hides


def fill(phrase: str, book: Phrasebook, draw: random.Random) -> str:
    """`phrase` with its choices made and its slots filled; raises KeyError for a slot that nobody knows."""
    while (chosen := _CHOICE.sub(lambda m: draw.choice(m.group(1).split("|")), phrase)) != phrase:
        phrase = chosen
    return " ".join(_SLOT.sub(lambda m: _slot(m.group(1), book, draw), phrase).split())


def _slot(name: str, book: Phrasebook, draw: random.Random) -> str:
    if name == "digits":
        return str(draw.randint(100200, 989999))
    if name == "amount":
        return f"{draw.randint(6, 249)}{draw.choice(['', '.90', '.50', '.99'])}"
    if name == "small":
        return str(draw.randint(2, 9))
    if name == "version":
        return f"{draw.randint(2, 7)}.{draw.randint(0, 14)}"
    if name == "email":
        return f"{draw.choice(book.words['mailbox'])}{draw.randint(1, 99)}@{draw.choice(book.words['mailhost'])}"
    if name == "house":
        return str(draw.randint(1, 148))
    return fill(draw.choice(book.words[name]), book, draw)
