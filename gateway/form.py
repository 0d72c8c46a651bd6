"""One multipart form, read from a file on disk: its small fields into memory, its file into another file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

FIELD_BYTES = 64 * 1024
FIELDS = 64
READ_BYTES = 1024 * 1024

Keeps = Callable[[Mapping[str, str]], bool]


class MalformedFormError(Exception):
    """One line that says what is wrong."""


@dataclass
class Form:
    """`filename` is None when no field named `file` was a file."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    file_bytes: int = 0


def read_form(source: Path, content_type: str, into: Path, limit_bytes: int, keeps: Keeps) -> Form:
    """The form in `source`; what the field `file` holds goes into `into` (0600), at most `limit_bytes` of it.

    When that file begins, `keeps` is asked with the fields before it whether it is wanted at all.
    Raises MalformedFormError for what is no form, OSError, and what `keeps` raises.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise MalformedFormError("The body must be multipart/form-data.")
    into.touch(mode=0o600)
    with source.open("rb") as body, into.open("wb") as file:
        reader = _Reader(file, limit_bytes, keeps)
        try:
            parser = MultipartParser(options[b"boundary"], reader.callbacks())
            for chunk in iter(lambda: body.read(READ_BYTES), b""):
                parser.write(chunk)
            parser.finalize()
        except FormParserError as error:
            raise MalformedFormError(f"The form is malformed: {error}.") from error
    if not reader.ended:
        raise MalformedFormError("The form broke off.")
    return reader.form


class _Reader:
    """The parser's callbacks, over one form."""

    def __init__(self, file: BinaryIO, limit_bytes: int, keeps: Keeps) -> None:
        self.form, self.ended = Form(), False
        self._file, self._limit_bytes, self._keeps = file, limit_bytes, keeps
        self._headers: dict[bytes, bytes] = {}
        self._header, self._value, self._text = bytearray(), bytearray(), bytearray()
        self._named, self._is_file, self._is_kept = "", False, False

    def callbacks(self) -> Any:
        names = ("part_begin", "header_begin", "header_field", "header_value", "header_end")
        more = ("headers_finished", "part_data", "part_end", "end")
        return {f"on_{name}": getattr(self, name) for name in (*names, *more)}

    def part_begin(self) -> None:
        self._headers, self._text, self._named, self._is_file = {}, bytearray(), "", False

    def header_begin(self) -> None:
        self._header, self._value = bytearray(), bytearray()

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        self._headers[bytes(self._header).lower()] = bytes(self._value)

    def headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b"").decode("latin-1"))
        self._named = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = self._named == "file" and b"filename" in options
        if self._is_file:
            if self.form.filename is not None:
                raise MalformedFormError("One file at a time.")
            self.form.filename = options[b"filename"].decode("utf-8", "replace").replace("\0", "")[:255]
            self._is_kept = self._keeps(self.form.fields)

    def part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self.form.file_bytes += end - start
            if self._is_kept and self.form.file_bytes <= self._limit_bytes:
                self._file.write(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > FIELD_BYTES:
            raise MalformedFormError(f"A field of the form is longer than {FIELD_BYTES} bytes.")

    def part_end(self) -> None:
        if self._is_file:
            return
        if len(self.form.fields) >= FIELDS:
            raise MalformedFormError(f"The form has more than {FIELDS} fields.")
        self.form.fields[self._named] = self._text.decode("utf-8", "replace")

    def end(self) -> None:
        self.ended = True
