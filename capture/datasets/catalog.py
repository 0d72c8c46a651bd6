"""Finding datasets and reading their rows."""

from collections.abc import Iterator

import msgspec
from sqlalchemy import Row as Record
from sqlalchemy import select

from capture.datasets.card import Card, Contents, Split
from capture.datasets.row import Row, decode_row
from capture.db import Store
from capture.errors import NotFoundError, RefusedError
from capture.tables import dataset_rows, datasets

BATCH = 500


def resolve(store: Store, reference: str) -> str:
    """The id of a dataset named by its id or as TASK@VERSION. Raises NotFoundError."""
    task, _, version = reference.rpartition("@")
    named = datasets.c.id == reference
    if task and version.isdecimal():
        named = (datasets.c.task == task) & (datasets.c.version == int(version))
    with store.read() as connection:
        found = connection.scalar(select(datasets.c.id).where(named))
    if found is None:
        raise NotFoundError(f"no dataset {reference!r}; name one by its id or as TASK@VERSION")
    return str(found)


def load_card(store: Store, dataset_id: str) -> Card:
    """A dataset's card, whatever its state. Raises NotFoundError."""
    with store.read() as connection:
        found = connection.execute(select(datasets).where(datasets.c.id == dataset_id)).first()
    if found is None:
        raise NotFoundError(f"no dataset {dataset_id!r}")
    return _card(found)


def list_datasets(store: Store, task: str | None = None, limit: int = 100) -> list[Card]:
    """The newest datasets, of one task or of all, newest first."""
    chosen = select(datasets).order_by(datasets.c.created_at.desc(), datasets.c.version.desc()).limit(limit)
    if task is not None:
        chosen = chosen.where(datasets.c.task == task)
    with store.read() as connection:
        return [_card(found) for found in connection.execute(chosen)]


def rows(store: Store, dataset_id: str, split: Split | None = None) -> Iterator[Row]:
    """The rows of a ready dataset, in order, without the erased; None: both splits. Memory holds one batch.

    Raises NotFoundError, and RefusedError for a dataset that is not ready.
    """
    card = load_card(store, dataset_id)
    if card.state != "ready":
        raise RefusedError(f"dataset {card.name} is {card.state}; its rows can be read when it is ready")
    return _rows(store, dataset_id, split)


def _rows(store: Store, dataset_id: str, split: Split | None) -> Iterator[Row]:
    chosen = select(dataset_rows.c.position, dataset_rows.c.row).where(dataset_rows.c.dataset_id == dataset_id)
    if split is not None:
        chosen = chosen.where(dataset_rows.c.split == split)
    after = -1
    while True:
        later = chosen.where(dataset_rows.c.position > after).order_by(dataset_rows.c.position).limit(BATCH)
        with store.read() as connection:
            batch = connection.execute(later).all()
        if not batch:
            return
        yield from (decode_row(found.row) for found in batch if found.row)
        after = batch[-1].position


def _card(found: Record[tuple[object, ...]]) -> Card:
    contents = msgspec.convert(found.card, Contents)
    return Card(
        id=found.id,
        task=found.task,
        version=found.version,
        state=found.state,
        hash=found.hash,
        error=found.error,
        created_at=found.created_at,
        ready_at=found.ready_at,
        filters=found.filters,
        **msgspec.structs.asdict(contents),
    )
