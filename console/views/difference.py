"""Two texts side by side, word by word: what only the one says, and what only the other."""

import difflib
import re

from console.views.words import escaped

MOST_WORDS = 2_000
_WORDS = re.compile(r"(\w+|[^\w\s])(\s*)")
_BREAK = "  \n\u2060"
"""A line's end, and a mark that nobody sees before the next: what stands after it begins no list and no heading."""


def words(left: str, right: str) -> tuple[str, str]:
    """Markdown for both, every word escaped; words of only one side have a coloured ground. Lines end as they did.

    Texts of more than MOST_WORDS words are escaped and not compared. Nothing is aligned by punctuation, nor in long
    texts by words that are everywhere: that would take the longer, the less the two have in common.
    """
    ours, theirs = _WORDS.findall(left), _WORDS.findall(right)
    if max(len(ours), len(theirs)) > MOST_WORDS:
        return _marked(left, ""), _marked(right, "")
    sides = [word for word, _ in ours], [word for word, _ in theirs]
    first, second = [], []
    for tag, a, b, c, d in difflib.SequenceMatcher(_is_mark, *sides).get_opcodes():
        first.append(_marked(_text(ours[a:b]), "" if tag == "equal" else "green"))
        second.append(_marked(_text(theirs[c:d]), "" if tag == "equal" else "orange"))
    return "".join(first).strip(), "".join(second).strip()


def _is_mark(word: str) -> bool:
    return not word[0].isalnum()


def _text(parts: list[tuple[str, str]]) -> str:
    return "".join(word + space for word, space in parts)


def _marked(text: str, colour: str) -> str:
    return _BREAK.join(_line(line, colour) for line in text.splitlines() or [""]) + _BREAK * text.endswith("\n")


def _line(line: str, colour: str) -> str:
    word = line.strip()
    if not word or not colour:
        return escaped(line)
    before, _, after = line.partition(word)
    return f"{before}:{colour}-background[{escaped(word)}]{after}"
