"""Exact edits to top-level members of a JSON object, by splicing bytes: all others stay as they were sent."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

_SPACE = re.compile(rb"[ \t\n\r]*+")
_STRING = re.compile(rb'"[^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+"')
_SCALAR = re.compile(rb"[-+.0-9A-Za-z]++")
_BRACKET = re.compile(rb'[^"\[\]{}]*+(?:("[^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+")|([\[\]{}]))')
_KEY = re.compile(rb'[ \t\n\r]*+"([^"\\]*+)"[ \t\n\r]*+:[ \t\n\r]*+')
_MARK = re.compile(rb"[ \t\n\r]*+[,}]")

_values = msgspec.json.Decoder(dict[str, msgspec.Raw])


class JsonEditError(ValueError):
    """The bytes are not one well-formed JSON object."""


class Member(NamedTuple):
    """One top-level member: `body[start:end]` is key, colon and value; `body[value_start:end]` the value."""

    name: str
    start: int
    value_start: int
    end: int


def members(body: bytes) -> Iterator[Member]:
    """The members of the top-level object in order, duplicates included.

    The caller has decoded `body` as JSON before; what is inside values is skipped by brackets and strings alone.
    Raises JsonEditError where no object can be made out.
    """
    at = _after(body, 0, b"{")
    if body[at : at + 1] == b"}":
        _ended(body, at + 1)
        return
    while True:
        member = _member(body, at)
        yield member
        at = _space(body, member.end)
        mark = body[at : at + 1]
        if mark == b"}":
            _ended(body, at + 1)
            return
        if mark != b",":
            raise JsonEditError(f"expected a comma at byte {at}")
        at = _space(body, at + 1)


def edit(body: bytes, changes: Mapping[str, bytes | None]) -> bytes:
    """`body` with the values of the named members replaced by the given JSON, or, for None, the members removed.

    A name that is not there changes nothing; one that is there twice is changed twice.
    """
    found = _decoded_members(body) or list(members(body))
    kept = [member for member in found if changes.get(member.name, b"") is not None]
    if len(kept) == len(found):
        return _replaced(body, found, changes)
    return _rebuilt(body, found, changes)


def _decoded_members(body: bytes) -> list[Member] | None:
    """The same as `members`, many times faster: msgspec tells how long each value is.

    None where that is not enough: duplicate names, what msgspec does not read, or an empty object.
    """
    try:
        values = _values.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not values:
        return None
    found, at = [], body.index(b"{") + 1
    for name, value in values.items():
        key = _KEY.match(body, at)
        if key is None or key.group(1) != name.encode():
            return None  # an escaped name, or one that is there twice
        value_start = key.end()
        end = value_start + len(memoryview(value))
        mark = _MARK.match(body, end)
        if mark is None:
            return None
        found.append(Member(name, key.start(1) - 1, value_start, end))
        at = mark.end()
    return found


def _replaced(body: bytes, found: list[Member], changes: Mapping[str, bytes | None]) -> bytes:
    parts: list[bytes] = []
    at = 0
    for member in found:
        value = changes.get(member.name)
        if value is not None:
            parts += (body[at : member.value_start], value)
            at = member.end
    return b"".join((*parts, body[at:]))


def _rebuilt(body: bytes, found: list[Member], changes: Mapping[str, bytes | None]) -> bytes:
    """Each kept member brings the bytes before it (comma and space), but the first of them only its own space."""
    parts: list[bytes] = []
    at = first = found[0].start
    for member in found:
        lead, at = body[at : member.start], member.end
        value = changes.get(member.name, body[member.value_start : member.end])
        if value is None:
            continue
        parts.append((lead if parts else b"") + body[member.start : member.value_start] + value)
    return body[:first] + b"".join(parts) + body[at:]


def _member(body: bytes, at: int) -> Member:
    key = _STRING.match(body, at)
    if key is None:
        raise JsonEditError(f"expected a name at byte {at}")
    value_start = _after(body, key.end(), b":")
    raw = key.group()
    try:
        name = str(json.loads(raw)) if b"\\" in raw else raw[1:-1].decode()
    except ValueError as error:
        raise JsonEditError(f"unreadable name at byte {at}") from error
    return Member(name, at, value_start, _value_end(body, value_start))


def _value_end(body: bytes, at: int) -> int:
    mark = body[at : at + 1]
    if mark in (b"{", b"["):
        return _container_end(body, at)
    match = (_STRING if mark == b'"' else _SCALAR).match(body, at)
    if match is None:
        raise JsonEditError(f"expected a value at byte {at}")
    return match.end()


def _container_end(body: bytes, at: int) -> int:
    depth = 0
    while match := _BRACKET.match(body, at):
        at = match.end()
        bracket = match.group(2)
        if bracket is None:
            continue
        depth += 1 if bracket in b"[{" else -1
        if depth == 0:
            return at
    raise JsonEditError(f"no end of the value before byte {at}")


def _space(body: bytes, at: int) -> int:
    match = _SPACE.match(body, at)
    return match.end() if match else at


def _after(body: bytes, at: int, mark: bytes) -> int:
    at = _space(body, at)
    if body[at : at + 1] != mark:
        raise JsonEditError(f"expected {mark.decode()!r} at byte {at}")
    return _space(body, at + 1)


def _ended(body: bytes, at: int) -> None:
    if _space(body, at) != len(body):
        raise JsonEditError(f"something follows the object at byte {at}")
