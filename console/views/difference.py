"""Two texts side by side, word by word: what only the one says, and what only the other."""

import difflib
import re

from console.views.words import escaped

MOST_WORDS = 2_000
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")


def words(left: str, right: str) -> tuple[str, str]:
    """Markdown for both, every word escaped; words of only one side have a coloured ground.

    Texts of more than MOST_WORDS words are escaped and not compared.
    """
    ours, theirs = _WORDS.findall(left), _WORDS.findall(right)
    if max(len(ours), len(theirs)) > MOST_WORDS:
        return escaped(left).strip(), escaped(right).strip()
    first, second = [], []
    for tag, a, b, c, d in difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        first.append(_marked("".join(ours[a:b]), "" if tag == "equal" else "green"))
        second.append(_marked("".join(theirs[c:d]), "" if tag == "equal" else "orange"))
    return "".join(first).strip(), "".join(second).strip()


def _marked(text: str, colour: str) -> str:
    word = text.strip()
    if not word or not colour:
        return escaped(text)
    before, _, after = text.partition(word)
    return f"{before}:{colour}-background[{escaped(word)}]{after}"
