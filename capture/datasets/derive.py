"""Datasets made of another one's rows, with other targets: the same holdout, a version and a hash of their own."""

from collections.abc import Callable, Iterable, Iterator

import msgspec
from sqlalchemy import delete, insert, update

from capture.datasets.card import Split
from capture.datasets.catalog import load_card
from capture.datasets.lines import Lines
from capture.datasets.row import Row
from capture.db import Store
from capture.tables import dataset_rows, datasets

BATCH = 500


def derive(
    store: Store, dataset_id: str, source: str, rows: Iterable[tuple[Split, Row]], clock: Callable[[], float]
) -> None:
    """Writes a queued dataset's rows, the train split first, and calls it ready. Repeatable; a ready one is left alone.

    What its card says beside the rows is what the card of `source`, the dataset that they come from, says.
    """
    if load_card(store, dataset_id).state == "ready":
        return
    with store.write() as connection:
        connection.execute(delete(dataset_rows).where(dataset_rows.c.dataset_id == dataset_id))
        connection.execute(update(datasets).where(datasets.c.id == dataset_id).values(state="building", error=None))
    lines = Lines(dataset_id)
    for batch in _batches(rows):
        written = [lines.line(split, row, None) for split, row in batch]
        with store.write() as connection:
            connection.execute(insert(dataset_rows), written)
    contents, known = lines.tally.contents(), load_card(store, source)
    contents.near_duplicate, contents.considered = known.near_duplicate, known.considered
    contents.upstreams, contents.models, contents.arms = known.upstreams, known.models, known.arms
    ready = {"state": "ready", "hash": lines.hash, "card": msgspec.to_builtins(contents), "ready_at": clock()}
    with store.write() as connection:
        connection.execute(update(datasets).where(datasets.c.id == dataset_id).values(**ready))


def _batches(rows: Iterable[tuple[Split, Row]]) -> Iterator[list[tuple[Split, Row]]]:
    batch: list[tuple[Split, Row]] = []
    for one in rows:
        batch.append(one)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
