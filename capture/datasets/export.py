"""Datasets as files that other trainers read: OpenAI's SFT and DPO lines, Parquet, a folder for Hugging Face."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet

from capture.datasets.card import IMPORTED, Card, Split
from capture.datasets.catalog import load_card, rows
from capture.datasets.row import Row, encode_row
from capture.db import Store
from capture.errors import DiskError, RefusedError
from capture.settings import Settings

BATCH = 1000
SPLITS: tuple[Split, ...] = ("train", "holdout")
HF_NAMES = {"train": "train", "holdout": "test"}

_MODE = 0o600
_SCHEMA = pa.schema(
    [
        ("exchange_id", pa.string()),
        ("split", pa.string()),
        ("messages", pa.string()),
        ("tools", pa.string()),
        ("target", pa.string()),
        ("label", pa.string()),
        ("truth", pa.string()),
        ("source", pa.string()),
        ("fingerprint", pa.string()),
        ("conversation", pa.string()),
        ("started_at", pa.float64()),
        ("row", pa.string()),
    ]
)


def export(store: Store, dataset_id: str, form: str, path: Path, settings: Settings) -> int:
    """Writes a ready dataset to `path` and returns how many rows; the file or folder is there whole or not at all.

    `openai-sft` and `openai-dpo` write one JSONL file of training rows (DPO: those with a correction); `jsonl` all rows
    as they are kept; `parquet` one file; `huggingface` a folder with a Parquet file a split and a README. The holdout
    goes out only with the last three, in a split of its own. Files are 0600. Raises RefusedError for another form,
    where something is at `path` already, and where an upstream's terms forbid training; DiskError.
    """
    if form not in FORMS:
        raise RefusedError(f"there is no export form {form!r}; there are {', '.join(FORMS)}")
    if path.exists():
        raise RefusedError(f"{path} exists; export to a new path")
    card = load_card(store, dataset_id)
    _check_terms(card, settings)
    half = path.with_name(f".{path.name}.{os.getpid()}.half")
    try:
        count = FORMS[form](store, card, half)
        half.rename(path)
    except OSError as error:
        raise DiskError(f"{path} could not be written: {error.strerror or error}") from error
    finally:
        _remove(half)
    return count


def _check_terms(card: Card, settings: Settings) -> None:
    for name in card.upstreams.keys() - {IMPORTED}:
        upstream = settings.upstreams.get(name)
        if upstream is None or not upstream.training_allowed:
            raise RefusedError(f"{card.name} holds answers of upstream {name!r}, whose terms do not allow training")


def _remove(half: Path) -> None:
    if half.is_dir():
        shutil.rmtree(half)
    else:
        half.unlink(missing_ok=True)


def sft_line(row: Row) -> dict[str, Any]:
    """A row as OpenAI's supervised fine-tuning takes it."""
    return {"messages": [*row.request["messages"], row.target], **_tools(row)}


def dpo_line(row: Row) -> dict[str, Any] | None:
    """A corrected row as OpenAI's preference fine-tuning takes it; None for one that was not corrected."""
    if row.original is None:
        return None
    given = {"messages": row.request["messages"], **_tools(row)}
    return {"input": given, "preferred_output": [row.target], "non_preferred_output": [row.original]}


def _tools(row: Row) -> dict[str, Any]:
    return {name: row.request[name] for name in ("tools", "parallel_tool_calls") if name in row.request}


def _write_sft(store: Store, card: Card, path: Path) -> int:
    return _lines(path, map(sft_line, rows(store, card.id, "train")))


def _write_dpo(store: Store, card: Card, path: Path) -> int:
    lines = (line for row in rows(store, card.id, "train") if (line := dpo_line(row)) is not None)
    count = _lines(path, lines)
    if not count:
        raise RefusedError(f"{card.name} has no corrections, and preference pairs are made of nothing else")
    return count


def _write_jsonl(store: Store, card: Card, path: Path) -> int:
    kept = ({"split": split, **msgspec.to_builtins(row)} for split in SPLITS for row in rows(store, card.id, split))
    return _lines(path, kept)


def _lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> int:
    count = 0
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE), "w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
            count += 1
        file.flush()
        os.fsync(file.fileno())
    return count


def _write_parquet(store: Store, card: Card, path: Path) -> int:
    return _table(path, ((split, row) for split in SPLITS for row in rows(store, card.id, split)))


def _write_folder(store: Store, card: Card, path: Path) -> int:
    data = path / "data"
    data.mkdir(parents=True, mode=0o700)
    count = 0
    for split in SPLITS:
        file = data / f"{HF_NAMES[split]}-00000-of-00001.parquet"
        count += _table(file, ((split, row) for row in rows(store, card.id, split)))
    readme = path / "README.md"
    readme.touch(mode=_MODE)
    readme.write_text(_readme(card), encoding="utf-8")
    return count


def _table(path: Path, found: Iterable[tuple[Split, Row]]) -> int:
    count = 0
    path.touch(mode=_MODE)
    with pyarrow.parquet.ParquetWriter(path, _SCHEMA) as writer:
        for batch in _batched(_record(split, row) for split, row in found):
            writer.write_table(pa.Table.from_pylist(batch, schema=_SCHEMA))
            count += len(batch)
    return count


def _batched(records: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for record in records:
        batch.append(record)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _record(split: Split, row: Row) -> dict[str, Any]:
    """JSON columns are text: rows of one dataset may have tools, contents and truths of any shape."""
    return {
        "exchange_id": row.exchange_id,
        "split": split,
        "messages": _json(row.request["messages"]),
        "tools": _json(row.request["tools"]) if row.request.get("tools") else None,
        "target": _json(row.target),
        "label": row.label,
        "truth": None if row.truth is None else _json(row.truth),
        "source": row.source,
        "fingerprint": row.fingerprint,
        "conversation": row.conversation,
        "started_at": row.started_at,
        "row": encode_row(row).decode(),
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _readme(card: Card) -> str:
    """A dataset card as the `datasets` library reads it."""
    paths = "".join(f"      - split: {name}\n        path: data/{name}-*.parquet\n" for name in HF_NAMES.values())
    front = f"---\nconfigs:\n  - config_name: default\n    data_files:\n{paths}---\n"
    facts = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(card, samples=[])), indent=2).decode()
    return (
        f"{front}\n# {card.name}\n\nHash {card.hash}. The test split is the sealed holdout.\n\n```json\n{facts}\n```\n"
    )


FORMS: dict[str, Callable[[Store, Card, Path], int]] = {
    "openai-sft": _write_sft,
    "openai-dpo": _write_dpo,
    "jsonl": _write_jsonl,
    "parquet": _write_parquet,
    "huggingface": _write_folder,
}
