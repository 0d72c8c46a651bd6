"""Rows on their way into the store: each with its place, all of them under one hash and one tally."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from capture.datasets.card import Split, Tally
from capture.datasets.filters import Candidate
from capture.datasets.row import Row, encode_row


@dataclass
class Lines:
    """Turns rows, in the order they are to have, into lines of `dataset_rows`."""

    dataset_id: str
    tally: Tally = field(default_factory=Tally)
    position: int = 0
    _digest: Any = field(default_factory=hashlib.sha256)

    def line(self, split: Split, row: Row, candidate: Candidate | None) -> dict[str, Any]:
        """`candidate` is None for an imported row."""
        data = encode_row(row)
        self._digest.update(f"{split} {len(data)}\n".encode() + data)
        self.tally.add(split, row, candidate)
        place = {"dataset_id": self.dataset_id, "position": self.position, "split": split}
        self.position += 1
        return {**place, "exchange_id": row.exchange_id, "row": data}

    @property
    def hash(self) -> str:
        """SHA-256 over all rows so far, with their splits, in order."""
        return str(self._digest.hexdigest())
