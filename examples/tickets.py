"""The demo's business: a seeded stream of support tickets whose true category and priority are known.

The business is made up: it sells coffee and tea machines with an app and a subscription. Every ticket is put together
from the phrasebooks, so that the wording varies, and its truth is the one that it was written for.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from examples.english import ENGLISH
from examples.german import GERMAN
from examples.phrasebook import Phrasebook, fill

CATEGORIES = tuple(ENGLISH.topics)
PRIORITIES = tuple(ENGLISH.priorities)

SYSTEM_PROMPT = (
    "Sort the support ticket. Answer in JSON with category "
    f"({', '.join(CATEGORIES)}), priority ({', '.join(PRIORITIES)}) and summary (at most twelve words)."
)

RESPONSE_FORMAT: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "triage",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {
                "category": {"type": "string", "enum": list(CATEGORIES)},
                "priority": {"type": "string", "enum": list(PRIORITIES)},
                "summary": {"type": "string"},
            },
            "required": ["category", "priority", "summary"],
            "additionalProperties": False,
        },
    },
}

_BOOKS = {"en": ENGLISH, "de": GERMAN}
_GERMAN_SHARE = 0.2
_AMBIGUOUS_SHARE = 0.1
_AMBIGUOUS_TALK = 0.5  # whoever mentions two topics says less about each
_PRIORITY_WEIGHTS = (20, 40, 24, 16)
_MAX_WORDS = 45
# Twelve tickets in a row come from nine customers: seven write once, one twice, one three times.
_VISITS = (0, 1, 2, 3, 4, 5, 6, 7, 7, 8, 8, 8)
# How often each optional part is there, by register.
_REGISTERS = {
    "formal": {"greeting": 0.95, "background": 0.4, "detail": 0.7, "ask": 0.6, "closing": 0.9},
    "friendly": {"greeting": 0.8, "background": 0.3, "detail": 0.6, "ask": 0.5, "closing": 0.5},
    "casual": {"greeting": 0.4, "background": 0.2, "detail": 0.5, "ask": 0.4, "closing": 0.2},
    "terse": {"greeting": 0.05, "background": 0.05, "detail": 0.4, "ask": 0.3, "closing": 0.05},
}
_REGISTER_WEIGHTS = (25, 30, 30, 15)
_TYPO_RATES = (0.0, 0.02, 0.05, 0.12)  # share of the words that are mistyped
_TYPO_WEIGHTS = (55, 25, 14, 6)


@dataclass(frozen=True)
class Truth:
    """What the ticket was written for: one of CATEGORIES, one of PRIORITIES."""

    category: str
    priority: str


@dataclass(frozen=True)
class Ticket:
    """One customer's message; `session` names the customer, `ambiguous` says that a second topic is mentioned."""

    id: str
    text: str
    language: str
    truth: Truth
    session: str
    ambiguous: bool


def tickets(seed: int, count: int, start: int = 0) -> Iterator[Ticket]:
    """Tickets number `start` to `start + count - 1` of the stream `seed`; each depends on its number alone."""
    return (_ticket(seed, index) for index in range(start, start + count))


def messages(ticket: Ticket) -> list[dict[str, str]]:
    """The chat messages that the demo's app sends for a ticket."""
    return [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": ticket.text}]


def _ticket(seed: int, index: int) -> Ticket:
    draw = random.Random(f"{seed}:ticket:{index}")
    session, language = _customer(seed, index)
    truth = Truth(draw.choice(CATEGORIES), draw.choices(PRIORITIES, _PRIORITY_WEIGHTS)[0])
    ambiguous = draw.random() < _AMBIGUOUS_SHARE
    text = _write(_BOOKS[language], truth, ambiguous, draw)
    return Ticket(f"ticket-{seed}-{index:06d}", text, language, truth, session, ambiguous)


def _customer(seed: int, index: int) -> tuple[str, str]:
    """Who writes, and in which language: a customer keeps to one."""
    block, place = divmod(index, len(_VISITS))
    visits = list(_VISITS)
    random.Random(f"{seed}:visits:{block}").shuffle(visits)
    session = f"customer-{seed}-{block * (max(_VISITS) + 1) + visits[place]:06d}"
    german = random.Random(f"{seed}:{session}").random() < _GERMAN_SHARE
    return session, "de" if german else "en"


def _write(book: Phrasebook, truth: Truth, ambiguous: bool, draw: random.Random) -> str:
    register = draw.choices(tuple(_REGISTERS), _REGISTER_WEIGHTS)[0]
    parts = _parts(book, truth, ambiguous, register, draw)
    dropped = ["background", "detail", "ask"]
    while sum(len(part.split()) for part in parts.values()) > _MAX_WORDS and dropped:
        parts.pop(dropped.pop(0), None)
    text = _mistype(_join(parts, register, book.asking, draw), draw.choices(_TYPO_RATES, _TYPO_WEIGHTS)[0], draw)
    if register in ("casual", "terse") and draw.random() < 0.5:
        text = text.lower()
    if register != "formal" and draw.random() < 0.3:
        text = _plain(text, book)
    return text


def _parts(book: Phrasebook, truth: Truth, ambiguous: bool, register: str, draw: random.Random) -> dict[str, str]:
    """The parts in their order, each a sentence or two, without its full stop."""
    topic, wanted = book.topics[truth.category], _REGISTERS[register]
    talk = _AMBIGUOUS_TALK if ambiguous else 1.0
    optional = {name: draw.random() < share * talk for name, share in wanted.items()}
    body = {"problem": fill(draw.choice(topic.problems), book, draw)}
    if ambiguous:
        body["problem"] = _with_mention(body["problem"], book, truth.category, draw)
    if optional["detail"]:
        body["detail"] = fill(draw.choice(topic.details), book, draw)
    if optional["ask"]:
        body["ask"] = fill(draw.choice(topic.asks), book, draw)
    if optional["background"]:
        background = fill(draw.choice(book.backgrounds), book, draw)
        body = {"background": background, **body} if draw.random() < 0.7 else {**body, "background": background}
    cue = fill(draw.choice(book.priorities[truth.priority]), book, draw)
    body = {"cue": cue, **body} if draw.random() < 0.2 else {**body, "cue": cue}
    greeting = {"greeting": fill(draw.choice(book.greetings), book, draw)} if optional["greeting"] else {}
    closing = {"closing": fill(draw.choice(book.closings), book, draw)} if optional["closing"] else {}
    return {name: part for name, part in {**greeting, **body, **closing}.items() if part}


def _with_mention(problem: str, book: Phrasebook, category: str, draw: random.Random) -> str:
    other = draw.choice([name for name in book.topics if name != category])
    mention = fill(draw.choice(book.topics[other].mentions), book, draw)
    return draw.choice(book.bridges).format(mention=mention, problem=problem)


def _join(parts: dict[str, str], register: str, asking: tuple[str, ...], draw: random.Random) -> str:
    """Sentences with their marks; the careless leave some marks out, the greeting takes a comma."""
    written = []
    for name, part in parts.items():
        mark = "?" if name in ("problem", "ask") and part.split()[0] in asking else "."
        if part.endswith("?"):
            mark = ""
        if name in ("greeting", "closing"):
            mark = draw.choice([",", "!", ""] if name == "greeting" else [".", "!", ""])
        elif register in ("casual", "terse") and mark == ".":
            mark = draw.choice([".", ".", ",", "!", "..."])
        written.append(part[0].upper() + part[1:] + mark)
    return (draw.choice(["\n", " "]) if register == "formal" else " ").join(written)


def _mistype(text: str, rate: float, draw: random.Random) -> str:
    """Some words of four letters or more with two letters swapped, one dropped or one doubled."""
    return re.sub(r"[^\W\d_]{4,}", lambda m: _slip(m.group(0), draw) if draw.random() < rate else m.group(0), text)


def _slip(word: str, draw: random.Random) -> str:
    at = draw.randrange(1, len(word) - 1)
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return draw.choice([swapped, word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:]])


def _plain(text: str, book: Phrasebook) -> str:
    for letter, plain in book.plain_letters.items():
        text = text.replace(letter, plain)
    return text
