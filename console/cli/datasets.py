"""`stillhouse datasets`: versioned selections of exchanges."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from capture import datasets
from capture.errors import UsageError
from console import verbs
from console.cli.context import Json, desk, invocation, show
from console.cli.waiting import Wait, follow

app = typer.Typer(
    help="Datasets: immutable, hashed, with a sealed holdout. Named by id or TASK@VERSION.", no_args_is_help=True
)
Lowest = Annotated[list[str] | None, typer.Option(help="GRADER=LOWEST, may be given several times.")]


@app.command("build")
def build(
    context: typer.Context,
    task: str,
    minimum_score: Lowest = None,
    wait: Wait = True,
) -> None:
    """Build the next version of a task's dataset."""
    filters = datasets.Filters(minimum_score=_lowest(minimum_score))
    dataset_id = verbs.build_dataset(desk(context), task, filters)
    typer.echo(dataset_id)
    if wait:
        follow(lambda: _state(context, dataset_id))


@app.command("preview")
def preview(
    context: typer.Context,
    task: str,
    minimum_score: Lowest = None,
) -> None:
    """What a build would take and leave out, told from the newest exchanges, as JSON."""
    run = desk(context)
    filters = datasets.Filters(minimum_score=_lowest(minimum_score))
    found = datasets.preview(run.store, task, run.task(task), filters, run.settings.upstreams)
    typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())


@app.command("list")
def list_(context: typer.Context, task: Annotated[str | None, typer.Option()] = None, json: Json = False) -> None:
    """Every version, newest first."""
    rows = [msgspec.to_builtins(found) for found in datasets.list_datasets(invocation(context).store, task)]
    show(rows, {"id": "id", "task": "task", "version": "version", "state": "state", "hash": "hash"}, json)


@app.command("show")
def show_(context: typer.Context, dataset: str) -> None:
    """A dataset's card, as JSON."""
    store = invocation(context).store
    card = datasets.load_card(store, datasets.resolve(store, dataset))
    typer.echo(msgspec.json.format(msgspec.json.encode(card), indent=2).decode())


@app.command("diff")
def diff(context: typer.Context, old: str, new: str) -> None:
    """What came, went and changed from one version to another, as JSON."""
    store = invocation(context).store
    found = datasets.diff(store, datasets.resolve(store, old), datasets.resolve(store, new))
    typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())


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
