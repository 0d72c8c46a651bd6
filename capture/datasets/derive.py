"""Datasets made of another one's rows, with other targets: the same holdout, a version and a hash of their own."""

from collections.abc import Callable, Iterable, Iterator

from capture.datasets import writing
from capture.datasets.card import Split
from capture.datasets.catalog import load_card
from capture.datasets.lines import Lines
from capture.datasets.row import Row
from capture.db import Store

BATCH = 500


def derive(
    store: Store, dataset_id: str, source: str, rows: Iterable[tuple[Split, Row]], clock: Callable[[], float]
) -> None:
    """Writes a queued dataset's rows, the train split first, and calls it ready. Repeatable; a ready one is left alone.

    What its card says beside the rows is what the card of `source`, the dataset that they come from, says.
    """
    if load_card(store, dataset_id).state == "ready":
        return
    writing.begin(store, dataset_id)
    lines = Lines(dataset_id)
    for batch in _batches(rows):
        written = [lines.line(split, row, None) for split, row in batch]
        with store.write() as connection:
            writing.insert_rows(connection, written)
    contents, known = lines.tally.contents(), load_card(store, source)
    contents.near_duplicate, contents.considered = known.near_duplicate, known.considered
    contents.upstreams, contents.models, contents.arms = known.upstreams, known.models, known.arms
    now = clock()
    with store.write() as connection:
        writing.finish(connection, dataset_id, contents, lines.hash, now)


def _batches(rows: Iterable[tuple[Split, Row]]) -> Iterator[list[tuple[Split, Row]]]:
    batch: list[tuple[Split, Row]] = []
    for one in rows:
        batch.append(one)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
