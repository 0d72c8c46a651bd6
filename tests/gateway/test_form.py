from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.form import Form, MalformedFormError, read_form

KIND = "multipart/form-data; boundary=x"
PURPOSE = b'content-disposition: form-data; name="purpose"\r\n\r\nbatch'
FILE = b'content-disposition: form-data; name="file"; filename="f.bin"\r\n\r\n\x00\xff raw'


def form_of(*parts: bytes) -> bytes:
    return b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + b"--x--\r\n"


@pytest.mark.parametrize(
    ("parts", "asked", "kept"),
    [((PURPOSE, FILE), {"purpose": "batch"}, b""), ((FILE, PURPOSE), {}, b"\x00\xff raw")],
)
def test_a_file_is_kept_where_what_stands_before_it_wants_it(
    tmp_path: Path, parts: tuple[bytes, ...], asked: dict[str, str], kept: bytes
) -> None:
    seen: list[dict[str, str]] = []

    def keeps(fields: Mapping[str, str]) -> bool:
        seen.append(dict(fields))
        return "purpose" not in fields

    source, into = tmp_path / "form", tmp_path / "file"
    source.write_bytes(form_of(*parts))
    assert read_form(source, KIND, into, 100, keeps) == Form({"purpose": "batch"}, "f.bin", 6)
    assert (seen, into.read_bytes()) == ([asked], kept)


def test_no_more_than_the_limit_is_kept_and_all_of_it_is_counted(tmp_path: Path) -> None:
    source, into = tmp_path / "form", tmp_path / "file"
    source.write_bytes(form_of(FILE))
    assert read_form(source, KIND, into, 5, lambda _fields: True).file_bytes == 6
    assert len(into.read_bytes()) <= 5


def test_one_file_at_a_time(tmp_path: Path) -> None:
    source = tmp_path / "form"
    source.write_bytes(form_of(FILE, FILE))
    with pytest.raises(MalformedFormError, match="One file"):
        read_form(source, KIND, tmp_path / "file", 100, lambda _fields: True)
