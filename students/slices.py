"""Owns the parts that traffic is cut into when evidence is looked at: prompt version, label, language, length, key."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from capture.errors import RefusedError
from capture.exchange import Answer
from capture.graders.of_task import reference_of
from capture.graders.sample import text_of
from capture.rows import label_of
from capture.strata import language_of as language_of
from capture.strata import length_of as length_of
from students.view import conversation

UNPROVEN = "unproven"
"""The slice of pairs whose prompt version the student was not proven on: shadowed, and outside the gates."""

OWN = ("prompt", "label", "language", "length", "key", UNPROVEN)
"""Names of slices that are cut without being declared."""

LONGEST_VALUE = 60


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


def true_label(truth: Any, pointer: str | None) -> str | None:
    """The task's label in a truth, any JSON value; a bare one is the label's own. None where there is none."""
    if truth is None:
        return None
    return label_of(Answer(message={"content": text_of(reference_of(truth, pointer))}), pointer)


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


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""
