"""Where the rows of a fine-tune come from, and how each becomes a line that is seen as the student sees requests."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from capture.datasets import Row, load_card, rows
from capture.errors import NotFoundError, RefusedError
from capture.prompts import fingerprint
from capture.settings import ViewSettings
from students import bases
from students.job_files import path_of
from students.job_lines import numbered
from students.jobs import LOCAL, Asked
from students.view import TEXT_PARTS, student_view
from students.workshop import Workshop

VALIDATION = "validation.jsonl"
HOSTED_TOKENS = 128_000

Json = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """Where rows come from: each a training line and its prompt's fingerprint. `file` is a client's."""

    name: str
    hash: str | None
    view: ViewSettings
    tools: bool
    lines: Iterable[tuple[Json, str | None]]
    file: Path | None = None


def source_of(shop: Workshop, job: Any, folder: Path) -> Source:
    """The rows of a fine-tune (a row of its table); a validation file's go into `folder` at once.

    Raises NotFoundError for a task that is gone, RefusedError for a dataset that is not ready and a file that is gone.
    """
    task = shop.load_tasks().get(job.task)
    if job.dataset_id is None:
        return _file_source(shop, job, task.view if task else None, folder)
    if task is None:
        raise NotFoundError(f"task {job.task!r} is gone")
    view, dataset_id = _fitting(shop, job, task.view), job.dataset_id
    tools = any(row.request.get("tools") for row in rows(shop.store, dataset_id, "train"))
    lines = ((line_of(row, view, tools), row.fingerprint) for row in rows(shop.store, dataset_id, "train"))
    return Source(f"dataset {dataset_id}", load_card(shop.store, dataset_id).hash, view, tools, lines)


def _file_source(shop: Workshop, job: Any, view: ViewSettings | None, folder: Path) -> Source:
    """A client's file; what an upstream trains for no task of ours goes there as it came."""
    asked = msgspec.convert(job.asked, Asked)
    view = None if view is None else _fitting(shop, job, view)
    path = path_of(shop.data, asked.training_file)
    tools = has_tools(path)
    if asked.validation_file:
        held = path_of(shop.data, asked.validation_file)
        seen = _seen(shop, job, held, view, tools)
        (folder / VALIDATION).write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one, _ in seen))
    lines = _seen(shop, job, path, view, tools)
    return Source(f"file {asked.training_file}", None, view or _view_of(shop, job), tools, lines, path)


def _seen(
    shop: Workshop, job: Any, path: Path, view: ViewSettings | None, tools: bool
) -> Iterable[tuple[Json, str | None]]:
    if view is None and job.trainer != LOCAL:
        return ((line, None) for _, line in read_lines(path))
    return viewed_lines(path, view or _view_of(shop, job), tools=tools)


def _view_of(shop: Workshop, job: Any) -> ViewSettings:
    """The view of a model that belongs to no task: all that its base can see."""
    if job.trainer != LOCAL:
        return ViewSettings(max_tokens=HOSTED_TOKENS, context_tokens=HOSTED_TOKENS)
    context = base_of(shop, job.base).context_tokens or ViewSettings().context_tokens
    return ViewSettings(max_tokens=context // 2, context_tokens=context)


def _fitting(shop: Workshop, job: Any, view: ViewSettings) -> ViewSettings:
    """A task's view with no more context than the base has: longer requests are the teacher's."""
    context = base_of(shop, job.base).context_tokens if job.trainer == LOCAL else 0
    return view.model_copy(update={"context_tokens": min(view.context_tokens, context or view.context_tokens)})


def base_of(shop: Workshop, name: str) -> bases.Base:
    """What is known of a base; one of a hub is fetched for it. Raises as bases.find and bases.pull do."""
    base = bases.find(name, allow_hub=shop.settings.students.allow_hub)
    return bases.told(base, shop.models(name)) if base.kind == "hub" else base


def line_of(row: Row, view: ViewSettings, tools: bool) -> Json:
    """One training line: OpenAI's shape, seen as the student will see live requests."""
    seen = student_view(row.request, view, tools=tools)
    line: Json = {"messages": [*seen["messages"], {"role": "assistant", **row.target}]}
    if "tools" in seen:
        line["tools"] = seen["tools"]
    return line


def read_lines(path: Path) -> Iterator[tuple[int, Json]]:
    """The lines of a file that was examined when it came, with their numbers."""
    if not path.exists():
        raise RefusedError(f"the file {path.stem} was deleted before the job read it: upload it again")
    for number, line in numbered(path):
        yield number, msgspec.json.decode(line)


def has_tools(path: Path) -> bool:
    """Whether any line speaks of tools."""
    return any(
        line.get("tools") or any(one.get("tool_calls") or one.get("role") == "tool" for one in line["messages"])
        for _, line in read_lines(path)
    )


def viewed_lines(path: Path, view: ViewSettings, *, tools: bool) -> Iterator[tuple[Json, str | None]]:
    """Each line in the student's view, with its prompt's fingerprint. Raises RefusedError for what is not text."""
    for number, line in read_lines(path):
        if not all(map(_is_text, line["messages"])):
            raise RefusedError(f"line {number} of {path.stem} holds more than text: this base learns text alone")
        yield viewed(line, view, tools), fingerprint({**line, "messages": line["messages"][:-1]})


def viewed(line: Json, view: ViewSettings, tools: bool) -> Json:
    """One line through `student_view`; weights stay with their messages."""
    seen = student_view(line, view, tools=tools)
    weights = [one.get("weight") for one in line["messages"] if _is_seen(one, view)]
    messages = [
        one if weight is None else {**one, "weight": weight}
        for one, weight in zip(seen["messages"], weights, strict=True)
    ]
    return {"messages": messages, **({"tools": seen["tools"]} if "tools" in seen else {})}


def _is_seen(message: Mapping[str, Any], view: ViewSettings) -> bool:
    return view.system_prompt == "keep" or message["role"] not in ("system", "developer")


def _is_text(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    return not isinstance(content, list) or all(part.get("type") in TEXT_PARTS for part in content)
