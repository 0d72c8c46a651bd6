"""`stillhouse datasets`: versioned selections of exchanges."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from capture import datasets
from capture.errors import UsageError
from console import verbs
from console.cli import whole
from console.cli.context import Json, changes_of, desk, invocation, show
from console.cli.waiting import Wait, follow
from console.reads import datasets as reads
from console.reads import estimates

app = typer.Typer(
    help="Datasets: immutable, hashed, with a sealed holdout. Named by id or TASK@VERSION.", no_args_is_help=True
)
Lowest = Annotated[list[str] | None, typer.Option(help="GRADER=LOWEST, may be given several times.")]
OWN = ("minimum_score", "metadata", "first", "misses_of", "relabel")
FIELDS = [name for name in datasets.Filters.__struct_fields__ if name not in OWN]
Where = Annotated[
    list[str] | None,
    typer.Option(help=f"NAME=VALUE, several times; NAME one of {', '.join(FIELDS)}, metadata.NAME."),
]


@app.command("build")
def build(
    context: typer.Context,
    task: str,
    minimum_score: Lowest = None,
    where: Where = None,
    wait: Wait = True,
) -> None:
    """Build the next version of a task's dataset."""
    filters = _filters(minimum_score, where)
    dataset_id = verbs.build_dataset(desk(context), task, filters)
    typer.echo(dataset_id)
    if wait:
        follow(lambda: _state(context, dataset_id))


@app.command("preview")
def preview(
    context: typer.Context,
    task: str,
    minimum_score: Lowest = None,
    where: Where = None,
    json: whole.Json = False,
) -> None:
    """What a build would take and leave out, told from the newest exchanges, as JSON."""
    run = desk(context)
    filters = _filters(minimum_score, where)
    found = datasets.preview(run.store, task, run.task(task), filters, run.settings.upstreams)
    whole.tell(found, json)


@app.command("list")
def list_(context: typer.Context, task: Annotated[str | None, typer.Option()] = None, json: Json = False) -> None:
    """Every version, newest first."""
    rows = [msgspec.to_builtins(found) for found in datasets.list_datasets(invocation(context).store, task)]
    show(rows, {"id": "id", "task": "task", "version": "version", "state": "state", "hash": "hash"}, json)


@app.command("show")
def show_(context: typer.Context, dataset: str, json: whole.Json = False) -> None:
    """A dataset's card, what a fine-tune on it takes, and who learnt from it, as JSON."""
    store = invocation(context).store
    card = datasets.load_card(store, datasets.resolve(store, dataset))
    beside = {"to_train": estimates.by_task(store, card), "students": dict(reads.learners(store, card.id))}
    whole.tell({**msgspec.to_builtins(card), **beside}, json)


@app.command("diff")
def diff(context: typer.Context, old: str, new: str, json: whole.Json = False) -> None:
    """What came, went and changed from one version to another, as JSON."""
    store = invocation(context).store
    found = datasets.diff(store, datasets.resolve(store, old), datasets.resolve(store, new))
    whole.tell(found, json)


@app.command("import")
def import_(
    context: typer.Context,
    task: str,
    path: Path,
    form: Annotated[
        str, typer.Option(help="openai-sft, openai-dpo, jsonl, parquet or huggingface (the last three: our exports)")
    ] = "openai-sft",
) -> None:
    """Make the task's next dataset of a file's rows; whether they may be trained on, you must know."""
    card = verbs.import_dataset(desk(context), task, form, path)
    left_out = ", ".join(f"{count} {reason}" for reason, count in card.drops.items()) or "none"
    typer.echo(f"{card.name}: {card.rows['train']} to train, {card.rows['holdout']} held out; left out: {left_out}")


@app.command("export")
def export(
    context: typer.Context,
    dataset: str,
    path: Path,
    form: Annotated[str, typer.Option(help="openai-sft, openai-dpo, jsonl, parquet or huggingface")] = "openai-sft",
) -> None:
    """Write a dataset's training rows to a file or folder."""
    count = verbs.export_dataset(desk(context), dataset, form, path)
    typer.echo(f"{count} rows in {path}")


@app.command("rows")
def rows(
    context: typer.Context,
    dataset: str,
    after: Annotated[int, typer.Option(help="Only behind this position.")] = -1,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    json: Json = False,
) -> None:
    """Rows of the train split, in order; the holdout stays sealed."""
    store = invocation(context).store
    found = reads.train_rows(store, datasets.resolve(store, dataset), after, limit)
    shown = [{"position": at, "answer": row.text, **msgspec.to_builtins(row)} for at, row in found.rows]
    show(shown, {"position": "position", "exchange_id": "exchange", "source": "from", "answer": "answer"}, json)


def _filters(lowest: Sequence[str] | None, where: Sequence[str] | None) -> datasets.Filters:
    """Raises UsageError for a part that there is not, or a value that does not suit it."""
    given = changes_of(where, "--where")
    metadata = {
        name.removeprefix("metadata."): str(given.pop(name)) for name in [*given] if name.startswith("metadata.")
    }
    lists = {name: given[name].split(",") for name in ("fingerprints", "arms") if isinstance(given.get(name), str)}
    if strangers := sorted(given.keys() - set(FIELDS)):
        raise UsageError(f"--where {strangers[0]!r}: NAME is one of {', '.join(FIELDS)}, metadata.NAME")
    own = {**given, **lists, "metadata": metadata, "minimum_score": _lowest(lowest)}
    try:
        return msgspec.convert(own, datasets.Filters)
    except msgspec.ValidationError as error:
        raise UsageError(f"--where: {error}") from error


def _lowest(given: Sequence[str] | None) -> dict[str, float] | None:
    """GRADER=LOWEST as a mapping; None: what the task says. Raises UsageError for what is no number."""
    scores: dict[str, float] = {}
    for part in given or ():
        name, _, number = part.rpartition("=")
        try:
            scores[name] = float(number)
        except ValueError as error:
            raise UsageError(f"--minimum-score {part!r}: write GRADER=LOWEST with a number from 0 to 1") from error
    return scores or None


def _state(context: typer.Context, dataset_id: str) -> tuple[str, str, Any]:
    card = datasets.load_card(invocation(context).store, dataset_id)
    return card.state, f"dataset {card.state}", card.error
