"""`stillhouse datasets relabel` and `from-misses`: datasets with better targets."""

from pathlib import Path
from typing import Annotated

import typer

from capture import datasets
from console import bettering
from console.cli.context import desk, invocation, model_at, text_of
from console.cli.waiting import Wait, follow


def relabel(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(help="An id, or TASK@VERSION.")],
    by: Annotated[str, typer.Argument(help="UPSTREAM/MODEL that answers anew.")],
    samples: Annotated[int, typer.Option(help="Answers a row; the graders keep the best.")] = 1,
    system: Annotated[Path | None, typer.Option(help="A file whose text replaces the system prompt.")] = None,
    wait: Wait = True,
) -> None:
    """A new version with the same rows, answered anew by a stronger teacher."""
    at, prompt = model_at(by), text_of(system)
    _follow(context, bettering.relabel(desk(context), dataset, at, samples, prompt), wait)


def from_misses(
    context: typer.Context,
    task: str,
    student: Annotated[str | None, typer.Option(help="Whose misses; by default the newest student's.")] = None,
    max_rows: Annotated[int, typer.Option(help="Rows to train on: misses first, then others by chance.")] = 1000,
    wait: Wait = True,
) -> None:
    """Build the next version with the rows first that the last student failed on."""
    _follow(context, bettering.build_from_misses(desk(context), task, student, max_rows), wait)


def register(app: typer.Typer) -> None:
    """Beside the other commands of `stillhouse datasets`."""
    app.command("relabel")(relabel)
    app.command("from-misses")(from_misses)


def _follow(context: typer.Context, dataset_id: str, wait: bool) -> None:
    typer.echo(dataset_id)

    def state() -> tuple[str, str, str | None]:
        card = datasets.load_card(invocation(context).store, dataset_id)
        return card.state, f"dataset {card.state}", card.error

    if wait:
        follow(state)
