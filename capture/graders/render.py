"""OpenAI's templates: `{{sample.output_text}}`, `{{item.input}}` and their like, filled from a sample."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from capture.graders.sample import MISSING, Json, Sample, json_of, message_of, part, text_of
from capture.prompts import last_user_text, metadata_of, system_prompt, turns

_SLOT = re.compile(r"\{\{\s*([\w.\-]+)\s*\}\}")

_NAMES: dict[str, Callable[[Sample], Json]] = {
    "sample.output_text": lambda sample: text_of(sample.output),
    "sample.output_json": lambda sample: json_of(sample.output),
    "sample.output_tools": lambda sample: message_of(sample.output).get("tool_calls") or [],
    "item.input": lambda sample: last_user_text(sample.request),
    "item.system": lambda sample: system_prompt(sample.request),
    "item.messages": lambda sample: turns(sample.request),
    "item.metadata": lambda sample: metadata_of(sample.request),
    "item.reference": lambda sample: MISSING if sample.reference is None else text_of(sample.reference),
    "item.reference_json": lambda sample: MISSING if sample.reference is None else json_of(sample.reference),
}
NAMES = tuple(_NAMES)


@dataclass(frozen=True)
class Template:
    """A text with slots, each a name of NAMES and perhaps a way into it: `sample.output_json.category`."""

    pieces: tuple[str, ...]  # text, slot, text, slot, …, text

    @classmethod
    def of(cls, text: str) -> "Template":
        """Raises ValueError for a slot that is filled by nothing."""
        found = cls(tuple(_SLOT.split(text)))
        for slot in found.slots:
            _split(slot)
        return found

    @property
    def slots(self) -> tuple[str, ...]:
        return self.pieces[1::2]

    @property
    def needs_reference(self) -> bool:
        return any(slot.startswith("item.reference") for slot in self.slots)

    def missing(self, sample: Sample) -> list[str]:
        """The slots that the sample has nothing for."""
        return [slot for slot in self.slots if value_of(sample, slot) is MISSING]

    def fill(self, sample: Sample, wrap: Callable[[str], str] = str) -> str:
        """The text with every slot filled, each filling through `wrap`; what is missing is empty."""
        filled = [
            wrap(_text(value_of(sample, piece))) if place % 2 else piece for place, piece in enumerate(self.pieces)
        ]
        return "".join(filled)


def value_of(sample: Sample, slot: str) -> Json:
    name, path = _split(slot)
    value = _NAMES[name](sample)
    for step in path:
        value = MISSING if value is MISSING else part(value, step)
    return value


def names_of(sample: Sample) -> tuple[dict[str, Any], dict[str, Any]]:
    """(sample, item) as `python` graders get them; what is missing is None."""
    values = {name: make(sample) for name, make in _NAMES.items()}
    known = {name: None if value is MISSING else value for name, value in values.items()}
    return _under(known, "sample."), _under(known, "item.")


def _under(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def _split(slot: str) -> tuple[str, list[str]]:
    first, _, rest = slot.partition(".")
    second, *path = rest.split(".")
    name = f"{first}.{second}"
    if name not in _NAMES:
        raise ValueError(f"nothing is called {{{{{slot}}}}}; there are {', '.join(NAMES)}")
    return name, path


def _text(value: Json) -> str:
    if value is MISSING:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
