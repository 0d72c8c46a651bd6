"""Redaction before the store: what is personal or secret in an exchange is replaced by stand-ins of the same form.

The same value gets the same stand-in everywhere in an exchange, in request and answer alike, and another one in any
other exchange, so that nobody can be followed through the store.
"""

import hashlib
import os
import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from capture.assemble import answer_from, json_nest
from capture.errors import ConfigError, DiskError
from capture.exchange import Answer
from capture.fields import Fields
from capture.fields import Path as FieldPath
from capture.recognisers import FINDERS, Find, Span
from capture.settings import RedactionSettings
from capture.surrogates import surrogate
from capture.write_once import write_once

Json = dict[str, Any]

SECRET_FILE = "redaction.key"  # noqa: S105 - its name
SECRET_BYTES = 32

# What names or types something in the API's own frame, and never holds what people wrote.
_FRAME = frozenset(
    {"id", "object", "type", "role", "model", "call_id", "tool_call_id", "item_id", "previous_response_id"}
    | {"response_id", "file_id", "system_fingerprint", "finish_reason", "status", "service_tier"}
    | {"encrypted_content", "b64_json", "file_data"}
)
_FREE = frozenset({"metadata"})  # its keys are the app's own
_LITERAL = re.compile(r'("[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z))(\s*:|)', re.DOTALL)
_CACHED_TEXTS = 512
_CACHED_CHARACTERS = 16_000
_SWEPT_VALUES = 500  # a body made of nothing but values must not take hours
_SHORTEST_REPEATED = 6  # shorter values are not looked for outside the place where they were recognised


@dataclass(frozen=True, slots=True)
class Redacted:
    request: Json
    answer: Answer
    count: int  # values replaced


class Redactor:
    """Redacts by one task's settings; `secret` keys the choice of stand-ins. Raises ConfigError for an unknown kind
    or a broken pattern."""

    def __init__(self, settings: RedactionSettings, secret: bytes) -> None:
        self._secret = secret
        unknown = set(settings.kinds) - FINDERS.keys()
        if unknown:
            raise ConfigError(f"redaction.kinds: {', '.join(sorted(unknown))} is none of {', '.join(FINDERS)}")
        named = [_custom(name, pattern) for name, pattern in settings.patterns.items()]
        known = [find for kind, find in FINDERS.items() if kind in settings.kinds]
        self._finders: tuple[Find, ...] = (*named, *known) if settings.enabled else ()
        self._fields = Fields(settings) if settings.enabled else None
        self._cached_spans = lru_cache(maxsize=_CACHED_TEXTS)(self._found)  # system prompts come again and again

    def redact(self, request: Json, answer: Answer, exchange_id: str) -> Redacted:
        """The exchange's bodies without what was recognised; the arguments are left as they are."""
        if not self._finders and not self._fields:
            return Redacted(request, answer, 0)
        work = _Work(self._spans, self._secret, exchange_id, self._fields)
        bodies: list[Any] = [work.walked(body) for body in (request, answer.raw, answer.error)]
        if work.stand_ins:
            work.sort()
            bodies = [work.swept(body) for body in bodies]
        return Redacted(bodies[0], answer_from(bodies[1], bodies[2]), work.count)

    def redact_value(self, exchange_id: str, value: Any) -> Any:
        """Any JSON value (feedback, a review) redacted as that exchange was, so that the two still match."""
        if not self._finders and not self._fields:
            return value
        work = _Work(self._spans, self._secret, exchange_id, self._fields)
        return work.walked(value)

    def masked(self, text: str) -> str:
        """`text` with each value replaced by its kind: equal for texts that differ in such values alone."""
        pieces: list[str] = []
        at = 0
        for span in self._spans(text):
            pieces += [text[at : span.start], f"<{span.kind}>"]
            at = span.end
        return "".join([*pieces, text[at:]])

    def pseudonym(self, value: str) -> str:
        """A name (session, user) as the store may know it: itself, or a keyed hash where it tells who somebody is."""
        if not self._spans(value):
            return value
        digest = hashlib.blake2b(value.encode("utf-8", "surrogatepass"), key=self._secret, digest_size=8)
        return f"anon-{digest.hexdigest()}"

    def _spans(self, text: str) -> tuple[Span, ...]:
        return self._cached_spans(text) if len(text) <= _CACHED_CHARACTERS else self._found(text)

    def _found(self, text: str) -> tuple[Span, ...]:
        """Non-overlapping spans in order; of overlapping ones the finder that comes first wins."""
        found: list[Span] = []
        for find in self._finders:
            for span in find(text):
                at = bisect_right(found, span.start, key=lambda other: other.start)
                behind = at == 0 or found[at - 1].end <= span.start
                ahead = at == len(found) or span.end <= found[at].start
                if behind and ahead and span.end > span.start:
                    found.insert(at, span)
        return tuple(found)


class _Work:
    """One exchange under redaction: what was found in it, and what stands in its place."""

    def __init__(
        self, spans: Callable[[str], tuple[Span, ...]], secret: bytes, exchange_id: str, fields: Fields | None
    ) -> None:
        self.count = 0
        self.stand_ins: dict[str, str] = {}
        self._repeated: list[str] = []
        self._spans = spans
        self._secret = secret
        self._exchange_id = exchange_id
        self._fields = fields

    def walked(self, value: Any, *, free: bool = False, label: str = "", path: FieldPath = ()) -> Any:
        """A copy of a JSON value with its strings redacted; the frame's own words are kept.

        `free`: inside something that the app made up, where keys say what a value is, and may hold one themselves.
        `path`: where it stands, for fields that are denied or allowed.
        """
        denied = self._fields.is_denied(path) if self._fields else None
        if denied is not None:
            return self._denied(value) if denied else value
        if isinstance(value, str):
            return self._within(value, label, path) if self._fields else self._text(value, label)
        if isinstance(value, list):
            return [self.walked(one, free=free, label=label, path=(*path, str(at))) for at, one in enumerate(value)]
        if not isinstance(value, dict):
            return value
        if free:
            return {
                self._text(key): self.walked(one, free=True, label=key, path=(*path, key)) for key, one in value.items()
            }
        return {key: self._framed(key, one, (*path, key)) for key, one in value.items()}

    def _framed(self, key: str, value: Any, path: FieldPath) -> Any:
        asked = self._fields is not None and self._fields.is_denied(path) is not None
        if key in _FRAME and isinstance(value, str) and not asked:
            return value
        return self.walked(value, free=key in _FREE, path=path)

    def _denied(self, value: Any) -> Any:
        """Every leaf replaced: texts and numbers by ones of the same form; truth values and null say nothing alone."""
        if isinstance(value, dict):
            return {key: self._denied(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self._denied(one) for one in value]
        if value is None or isinstance(value, bool) or value == "":
            return value
        self.count += 1
        if isinstance(value, str):
            return self._stand_in("field", value)
        made = surrogate("field", str(abs(value)), self._secret, self._exchange_id)
        return type(value)(float(made)) if made.replace(".", "", 1).isdigit() else 0

    def _within(self, text: str, label: str, path: FieldPath) -> str:
        """JSON that is a whole text has fields too."""
        inner = json_nest(text) if text.lstrip().startswith(("{", "[")) else None
        if inner is None:
            return self._text(text, label)
        replaced = self.walked(inner, free=True, path=path)
        return text if replaced == inner else msgspec.json.encode(replaced).decode()

    def sort(self) -> None:
        """Ends the search: what `swept` looks for, the longest first."""
        long = [value for value in self.stand_ins if len(value) >= _SHORTEST_REPEATED]
        self._repeated = sorted(long[:_SWEPT_VALUES], key=len, reverse=True)

    def swept(self, value: Any) -> Any:
        """Replaces what was found anywhere, also where its surroundings did not give it away.

        Log-probabilities, which spell the text out token by token, go.
        """
        if isinstance(value, str):
            for found in self._repeated:
                if found in value:
                    self.count += value.count(found)
                    value = value.replace(found, self.stand_ins[found])
            return value
        if isinstance(value, list):
            return [self.swept(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {
            key: None if key == "logprobs" else item if key in _FRAME and isinstance(item, str) else self.swept(item)
            for key, item in value.items()
        }

    def _text(self, text: str, label: str = "") -> str:
        if len(text) < 4 or text.startswith("data:"):
            return text
        if "\\" in text and '"' in text:
            return self._quoted(text)
        return self._plain(text, label)

    def _quoted(self, text: str) -> str:
        """JSON inside a text (a tool call's arguments): escapes could hide a value, or be broken by its stand-in."""
        pieces: list[str] = []
        at = 0
        label = ""
        for match in _LITERAL.finditer(text):
            pieces.append(self._plain(text[at : match.start()]))
            literal, colon = match.group(1), match.group(2)
            try:
                inner = msgspec.json.decode(literal, type=str)
            except (msgspec.MsgspecError, UnicodeError):
                inner = None
            redacted = self._plain(literal if inner is None else inner, label)
            changed = inner is not None and redacted != inner
            pieces.append(
                msgspec.json.encode(redacted).decode() if changed else literal if inner is not None else redacted
            )
            pieces.append(colon)
            label = (inner or "") if colon else ""
            at = match.end()
        return "".join([*pieces, self._plain(text[at:])])

    def _plain(self, text: str, label: str = "") -> str:
        """`text` redacted as if it stood behind `label: `."""
        lead = f"{label}: " if label else ""
        spans = self._spans(lead + text)
        pieces: list[str] = []
        at = 0
        for span in spans:
            start, end = span.start - len(lead), span.end - len(lead)
            if start >= 0:
                pieces += [text[at:start], self._stand_in(span.kind, text[start:end])]
                at = end
                self.count += 1
        return "".join([*pieces, text[at:]]) if pieces else text

    def _stand_in(self, kind: str, value: str) -> str:
        known = self.stand_ins.get(value)
        if known is None:
            known = self.stand_ins[value] = surrogate(kind, value, self._secret, self._exchange_id)
        return known


def _custom(name: str, pattern: str) -> Find:
    """A task's own pattern; its first group, where it has one, is what is replaced."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"redaction.patterns.{name}: not a regular expression: {error}") from error
    group = 1 if compiled.groups else 0

    def find(text: str) -> Any:
        return (Span(match.start(group), match.end(group), name) for match in compiled.finditer(text))

    return find


def load_secret(data: Path) -> bytes:
    """The data folder's redaction key, made on first use (0600). Raises DiskError when it cannot be kept."""
    path = data / SECRET_FILE
    try:
        secret = write_once(path, os.urandom(SECRET_BYTES))
    except OSError as error:
        raise DiskError(f"{path}: the redaction key cannot be kept there: {error.strerror}") from error
    if len(secret) != SECRET_BYTES:
        raise DiskError(f"{path}: not {SECRET_BYTES} bytes; restore it, or remove it to draw a new one")
    return secret
