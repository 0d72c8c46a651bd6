"""Owns the parts that traffic is cut into when evidence is looked at: prompt version, label, language, length, key."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from capture.errors import RefusedError
from students.view import conversation

UNPROVEN = "unproven"
"""The slice of pairs whose prompt version the student was not proven on: shadowed, and outside the gates."""

OWN = ("prompt", "label", "language", "length", "key", UNPROVEN)
"""Names of slices that are cut without being declared."""

LONGEST_VALUE = 60

STOP_WORDS = {
    "en": "the and to is of in it you my not for with have this that i on be was are",
    "de": "der die das und ist nicht ich zu den mit ein eine auf für mein wie es im von bitte",
    "fr": "le la les et est pas je de un une pour dans mon vous que sur il ne avec mes",
    "es": "el los y es no yo que en un una para mi por con del se las su lo está",
    "it": "il lo gli è non io di un una per mio che con del sono si ma nel ho della",
    "nl": "de het een en niet ik van mijn op te dat voor met zijn is er aan naar heb maar",
}
WORDS = {language: frozenset(words.split()) for language, words in STOP_WORDS.items()}
LENGTHS = ((400, "short"), (2000, "medium"))
"""Characters of text below which a request is called so; all others are long."""


def slices_of(
    request: Mapping[str, Any],
    fingerprint: str | None,
    label: str | None,
    key_id: str | None,
    declared: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Slice name → value for one request; a name is missing where its value is unknown.

    `declared`: further slices, by name the JSON pointer to their value in the request.
    """
    text = user_text(request)
    found = {
        "prompt": fingerprint or "",
        "label": label or "",
        "language": language_of(text) or "",
        "length": length_of(text),
        "key": key_id or "",
        **{name: _scalar(request, pointer) for name, pointer in declared.items()},
    }
    return {name: value for name, value in found.items() if value}


def check_declared(declared: Mapping[str, str]) -> None:
    """Raises RefusedError for a declared slice that cannot be cut."""
    taken = [name for name in declared if name in OWN or not name.isidentifier()]
    if taken:
        raise RefusedError(f"a declared slice cannot be called {', '.join(taken)}: choose a word that is not taken")
    strange = [pointer for pointer in declared.values() if not pointer.startswith("/")]
    if strange:
        raise RefusedError(f"a declared slice is a JSON pointer into the request (/metadata/tier), not {strange[0]!r}")


def _scalar(request: Mapping[str, Any], pointer: str) -> str:
    """What a JSON pointer (RFC 6901) finds in objects, where it is one word, number or truth value; else nothing."""
    value: Any = request
    for part in pointer.removeprefix("/").split("/"):
        value = value.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(value, Mapping) else None
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)[:LONGEST_VALUE] if isinstance(value, str | int | float) else ""


def user_text(request: Mapping[str, Any]) -> str:
    """What users said in it, joined by newlines; parts that are no text are left out."""
    return "\n".join(
        _text(message.get("content")) for message in conversation(request) if message.get("role") == "user"
    )


def length_of(text: str) -> str:
    return next((name for limit, name in LENGTHS if len(text) < limit), "long")


def language_of(text: str) -> str | None:
    """Guessed from frequent small words of six languages, cheap enough for every pair; None when it cannot be told."""
    words = re.findall(r"[^\W\d_]+", text[:4000].lower())
    hits = {language: sum(word in known for word in words) for language, known in WORDS.items()}
    best = max(hits, key=lambda language: hits[language])
    tied = sum(count == hits[best] for count in hits.values()) > 1
    return None if hits[best] == 0 or tied else best


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""
