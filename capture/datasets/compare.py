"""What came, went and changed from one dataset to another."""

import hashlib
from collections.abc import Iterator

import msgspec
from sqlalchemy import select

from capture.datasets.catalog import load_card
from capture.db import Store
from capture.tables import dataset_rows

BATCH = 2000
SAMPLES = 20


class Change(msgspec.Struct, kw_only=True):
    """How many rows, and the exchanges of the first of them."""

    rows: int = 0
    exchanges: list[str] = []

    def add(self, exchange_id: str) -> None:
        self.rows += 1
        if len(self.exchanges) < SAMPLES:
            self.exchanges = [*self.exchanges, exchange_id]


class Diff(msgspec.Struct, kw_only=True):
    """`changed`: the same exchange with another row (a correction, a truth that came); `moved`: in another split."""

    old: str
    new: str
    same: int = 0
    added: Change = msgspec.field(default_factory=Change)
    removed: Change = msgspec.field(default_factory=Change)
    changed: Change = msgspec.field(default_factory=Change)
    moved: Change = msgspec.field(default_factory=Change)
    labels: dict[str, tuple[int, int]] = {}  # of train rows whose number differs: before, after
    filters: dict[str, tuple[object, object]] = {}  # that differ: before, after


def diff(store: Store, old: str, new: str) -> Diff:
    """Compares two datasets, row by row, by exchange. Raises NotFoundError."""
    cards = load_card(store, old), load_card(store, new)
    before, after = (card.labels.get("train", {}) for card in cards)
    found = Diff(
        old=cards[0].name,
        new=cards[1].name,
        labels={name: (before.get(name, 0), after.get(name, 0)) for name in _differing(before, after)},
        filters={
            name: (cards[0].filters.get(name), cards[1].filters.get(name))
            for name in _differing(cards[0].filters, cards[1].filters)
        },
    )
    _merge(found, _lines(store, old), _lines(store, new))
    return found


def _differing(before: dict[str, object] | dict[str, int], after: dict[str, object] | dict[str, int]) -> list[str]:
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


Line = tuple[str, str, bytes]


def _lines(store: Store, dataset_id: str) -> Iterator[Line]:
    """(exchange, split, digest of the row) by exchange."""
    columns = (dataset_rows.c.exchange_id, dataset_rows.c.split, dataset_rows.c.row)
    chosen = select(*columns).where(dataset_rows.c.dataset_id == dataset_id).order_by(dataset_rows.c.exchange_id)
    after = ""
    while True:
        with store.read() as connection:
            later = chosen.where(dataset_rows.c.exchange_id > after).limit(BATCH)
            batch = [(row[0], row[1], hashlib.sha256(row[2]).digest()) for row in connection.execute(later)]
        if not batch:
            return
        yield from batch
        after = batch[-1][0]


def _merge(found: Diff, before: Iterator[Line], after: Iterator[Line]) -> None:
    left, right = next(before, None), next(after, None)
    while left or right:
        if right is None or (left is not None and left[0] < right[0]):
            found.removed.add(left[0] if left else "")
            left = next(before, None)
        elif left is None or right[0] < left[0]:
            found.added.add(right[0])
            right = next(after, None)
        else:
            _compare(found, left, right)
            left, right = next(before, None), next(after, None)


def _compare(found: Diff, left: Line, right: Line) -> None:
    if left[1] != right[1]:
        found.moved.add(left[0])
    elif left[2] != right[2]:
        found.changed.add(left[0])
    else:
        found.same += 1
