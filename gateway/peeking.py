"""Which model a passed request names: told from its path, or from the beginning of its body."""

import re
from urllib.parse import unquote

from gateway.head import MalformedBodyError, read_head

_FIRST_MEMBER = re.compile(rb'\s*\{\s*"model"\s*:\s*"([^"\\\x00-\x1f]*)"')
_FORM_FIELD = re.compile(
    rb'content-disposition:[^\r\n]*;\s*name="?model"?(?:\r\n[^\r\n]+)*\r\n\r\n([^\r\n]*)\r\n', re.IGNORECASE
)
_MODEL_PATH = "/v1/models/"


def is_peekable(content_type: bytes) -> bool:
    """Whether a body of this type may name a model."""
    kind = content_type[:40].lower()
    return kind.startswith((b"application/json", b"multipart/form-data"))


def model_of_path(path: str) -> str:
    return unquote(path[len(_MODEL_PATH) :]) if path.startswith(_MODEL_PATH) else ""


def model_of_body(content_type: bytes, beginning: bytes) -> str:
    """The model that a JSON object or a form names; empty where none is found in what is there of it."""
    if content_type[:20].lower().startswith(b"multipart/"):
        found = _FORM_FIELD.search(beginning)
    else:
        found = _FIRST_MEMBER.match(beginning)
        if found is None:
            return _decoded(beginning)
    return found.group(1).decode("utf-8", "replace") if found else ""


def _decoded(body: bytes) -> str:
    try:
        return read_head(body).model_name
    except MalformedBodyError:
        return ""
