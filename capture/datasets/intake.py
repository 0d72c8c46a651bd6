"""Rows from files: what `export` wrote, and OpenAI's supervised and preference lines, as a dataset of a task."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet
from sqlalchemy import Connection, func, insert, select

from capture.datasets import writing
from capture.datasets.card import Card, Split
from capture.datasets.catalog import load_card
from capture.datasets.conversation import UnusableError, chat_request, target_of
from capture.datasets.export import HF_NAMES, SPLITS
from capture.datasets.filters import Filters
from capture.datasets.lines import Lines
from capture.datasets.row import Row, decode_row
from capture.datasets.selection import Seal, seal_of
from capture.db import Store
from capture.errors import DiskError, RefusedError
from capture.exchange import Answer
from capture.ids import new_id
from capture.prompts import fingerprint, hashed, variable_text
from capture.rows import label_of
from capture.sampling import is_holdout
from capture.settings import TaskSettings
from capture.tables import datasets, tombstones

BATCH = 500

Found = Iterator[tuple[Split, Row] | str]
"""A row and its split, or the reason why a line is none."""


def import_rows(
    store: Store, task: str, form: str, path: Path, settings: TaskSettings, clock: Callable[[], float]
) -> Card:
    """Makes the task's next dataset of a file's rows, at once and whole, and returns its card.

    `openai-sft`, `openai-dpo`: lines are put on a side as exchanges are when captured; of a preference pair, what was
    preferred is the target, as a correction is. `jsonl`, `parquet`, `huggingface`: as `export` wrote them, and the rows
    come out as they went in. Rows for training that belong to a holdout of the task's, or are
    near-duplicates of one of its rows, are left out, as are rows that were erased and lines that are none; all are
    counted. Whether the terms of whoever answered allow training, the importer must know. Raises RefusedError for
    another form and for too few rows, DiskError for an unreadable file.
    """
    if form not in FORMS:
        raise RefusedError(f"there is no import form {form!r}; there are {', '.join(FORMS)}")
    seal = seal_of(store, task, settings.dataset.near_duplicate)
    try:
        with store.write() as connection:
            dataset_id = _make(connection, task, clock())
            intake = _Intake(connection, Lines(dataset_id), seal, _erased(connection))
            for split in SPLITS:
                intake.take(split, FORMS[form](path, settings))
            _close(intake, settings.dataset.minimum_rows, clock())
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        raise DiskError(f"{path} cannot be read: {error}") from error
    return load_card(store, dataset_id)


def _erased(connection: Connection) -> frozenset[str]:
    return frozenset(connection.scalars(select(tombstones.c.exchange_id)))


def _make(connection: Connection, task: str, now: float) -> str:
    newest = connection.scalar(select(func.max(datasets.c.version)).where(datasets.c.task == task)) or 0
    row: dict[str, Any] = {
        "id": new_id("ds_"),
        "task": task,
        "version": newest + 1,
        "state": "building",
        "card": {},
        "created_at": now,
    }
    connection.execute(insert(datasets).values(**row, filters=msgspec.to_builtins(Filters(until=now))))
    return str(row["id"])


@dataclass
class _Intake:
    """A file's rows on their way in."""

    connection: Connection
    lines: Lines
    seal: Seal
    erased: frozenset[str] = frozenset()
    known: set[str] = field(default_factory=set)
    drops: Counter[str] = field(default_factory=Counter)
    considered: Counter[str] = field(default_factory=Counter)

    def take(self, split: Split, found: Found) -> None:
        """Takes the rows of one split; what cannot be one is counted with the train split, once."""
        lines: list[dict[str, Any]] = []
        for one in found:
            if isinstance(one, str):
                self.drops[one] += split == "train"
            elif one[0] == split and self._is_new(split, one[1]):
                lines.append(self.lines.line(split, one[1], None))
            if len(lines) == BATCH:
                writing.insert_rows(self.connection, lines)
                lines = []
        writing.insert_rows(self.connection, lines)

    def _is_new(self, split: Split, row: Row) -> bool:
        self.considered[split] += 1
        reason = "erased" if row.exchange_id in self.erased else "duplicate" if row.exchange_id in self.known else None
        if split == "train":
            reason = reason or self.seal.reason_against_row(row)
        if reason:
            self.drops[reason] += 1
            return False
        self.known.add(row.exchange_id)
        return True


def _close(intake: _Intake, minimum: int, now: float) -> None:
    contents = intake.lines.tally.contents()
    contents.considered, contents.drops = dict(intake.considered), dict(sorted(intake.drops.items()))
    if contents.rows["train"] < max(1, minimum):
        reasons = ", ".join(f"{reason} {count}" for reason, count in intake.drops.most_common()) or "none"
        raise RefusedError(f"only {contents.rows['train']} training rows, {minimum} are needed; left out: {reasons}")
    writing.finish(intake.connection, intake.lines.dataset_id, contents, intake.lines.hash, now)


@dataclass(frozen=True)
class _Said:
    """What a line of OpenAI's says: a request, the answer to learn, and the one that it was preferred to."""

    request: dict[str, Any]
    target: dict[str, Any]
    original: dict[str, Any] | None = None


def _openai(path: Path, settings: TaskSettings, read: Callable[[Any], _Said]) -> Found:
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield _openai_row(line, settings, read)


def _openai_row(line: str, settings: TaskSettings, read: Callable[[Any], _Said]) -> tuple[Split, Row] | str:
    try:
        said = read(json.loads(line))
    except UnusableError as error:
        return error.reason
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "bad_line"
    conversation = hashed("text", variable_text(said.request))
    row = Row(
        exchange_id=hashlib.sha256(msgspec.json.encode([said.request, said.target], order="sorted")).hexdigest()[:32],
        request=said.request,
        target=said.target,
        label=label_of(Answer(message=said.target), settings.label),
        fingerprint=fingerprint(said.request),
        conversation=conversation,
        source="teacher" if said.original is None else "correction",
        started_at=0.0,
        original=said.original,
    )
    return ("holdout" if is_holdout(conversation, settings.dataset) else "train"), row


def _supervised(given: Any) -> _Said:
    messages = given["messages"]
    request = chat_request({**given, "messages": messages[:-1]})
    return _Said(request, _answer_in(messages))


def _preference(given: Any) -> _Said:
    request = chat_request({**given["input"]})
    return _Said(request, _answer_in(given["preferred_output"]), _answer_in(given["non_preferred_output"]))


def _answer_in(messages: Any) -> dict[str, Any]:
    """The last message, which must be an assistant's."""
    if messages[-1]["role"] != "assistant":
        raise UnusableError("no_answer")
    return target_of(messages[-1])


def _jsonl(path: Path, _: TaskSettings) -> Found:
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            try:
                given = json.loads(line)
                yield _checked(given.pop("split"), msgspec.convert(given, Row))
            except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
                yield "bad_line"


def _checked(split: str, row: Row) -> tuple[Split, Row] | str:
    try:
        chat_request(row.request)
        target_of(row.target)
    except UnusableError as error:
        return error.reason
    return ("train" if split == "train" else "holdout", row) if split in SPLITS else "bad_line"


def _parquet(path: Path, _: TaskSettings) -> Found:
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH, columns=["split", "row"]):
            for record in batch.to_pylist():
                try:
                    yield _checked(record["split"], decode_row(record["row"].encode()))
                except (msgspec.MsgspecError, AttributeError):
                    yield "bad_line"


def _folder(path: Path, settings: TaskSettings) -> Found:
    for name in HF_NAMES.values():
        for file in sorted((path / "data").glob(f"{name}-*.parquet")):
            yield from _parquet(file, settings)


FORMS: dict[str, Callable[[Path, TaskSettings], Found]] = {
    "openai-sft": partial(_openai, read=_supervised),
    "openai-dpo": partial(_openai, read=_preference),
    "jsonl": _jsonl,
    "parquet": _parquet,
    "huggingface": _folder,
}
