"""One row of a dataset: what a student is trained or examined on, and where it came from. Its bytes are canonical."""

from typing import Any, Literal

import msgspec

Json = Any


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One exchange as a dataset owns it.

    `request` is in Chat's shape (`messages`, and `tools`, `response_format` and sampling parameters where given).
    `target` is an assistant's message: in the train split what is to be learnt, in the holdout the teacher's own
    answer. `truth` is what was known to be right, any JSON value. `original` is the answer that a correction, or
    another teacher's, replaced.
    """

    exchange_id: str
    request: dict[str, Json]
    target: dict[str, Json]
    label: str | None = None
    fingerprint: str | None = None
    conversation: str
    session: str | None = None
    truth: Json = None
    source: Literal["teacher", "correction", "relabel"] = "teacher"
    started_at: float
    metadata: dict[str, str] = {}
    probability: float = 1.0
    original: dict[str, Json] | None = None
    labelled_by: str | None = None  # UPSTREAM/MODEL that said the target instead of the teacher

    @property
    def text(self) -> str:
        """The target's text; empty where it is a tool call."""
        content = self.target.get("content")
        return content if isinstance(content, str) else ""


_decoder = msgspec.json.Decoder(Row)


def encode_row(row: Row) -> bytes:
    """JSON with sorted keys: the same row is the same bytes."""
    return msgspec.json.encode(row, order="sorted")


def decode_row(data: bytes) -> Row:
    """Raises `msgspec.DecodeError` for anything that `encode_row` did not write."""
    return _decoder.decode(data)
