"""`stillhouse traffic`: what was asked and answered."""

import json as codec
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from capture import reviews, traffic
from capture.db import Store
from capture.errors import UsageError
from console import bulk, verbs
from console.cli import whole
from console.cli.context import Json, desk, harmless, invocation, show
from console.cli.waiting import POLL_S
from console.reads import exchanges as reads
from students.erasure import Erased

app = typer.Typer(help="Captured exchanges.", no_args_is_help=True)
Task = Annotated[str | None, typer.Option(help="Only this task.")]
Arm = Annotated[str | None, typer.Option(help="Only teacher, student or fallback.")]
Where = Annotated[list[str] | None, typer.Option(help="NAME=VALUE, such as text=refund, review=none, metadata.app=x.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
FIELDS = [name for name in traffic.TrafficFilter.__struct_fields__ if name not in ("task", "arm", "metadata")]


HEADS = {"id": "id", "task": "task", "arm": "arm", "status": "status", "review": "review", "preview": "preview"}
MOST_FRESH = 200


@app.command("list")
def list_(
    context: typer.Context,
    task: Task = None,
    arm: Arm = None,
    where: Where = None,
    before: Annotated[str | None, typer.Option(help="Only older than this exchange.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    follow: Annotated[bool, typer.Option("--follow", help="Then each new one as it comes, until Ctrl-C.")] = False,
    json: Json = False,
) -> None:
    """The newest exchanges first; `--before ID` goes on from the last one shown."""
    store, wanted = invocation(context).store, filter_of(task, arm, where)
    found = traffic.list_exchanges(store, wanted, before, limit)
    said = reads.verdicts_of(store, [row.id for row in found])
    rows = [{**_row(row), "review": said.get(row.id)} for row in found]
    show(rows, HEADS, json)
    seen = found[0].id if found else ""
    while follow:
        time.sleep(POLL_S)
        fresh = [row for row in traffic.list_exchanges(store, wanted, None, MOST_FRESH) if row.id > seen]
        for row in reversed(fresh):
            line = f"{row.id}  {row.arm}  {row.status}  {harmless(row.preview)}"
            typer.echo(codec.dumps(_row(row), default=str) if json else line)
        seen = fresh[0].id if fresh else seen


@app.command("show")
def show_(context: typer.Context, exchange: str, json: whole.Json = False) -> None:
    """One exchange whole, with its pairs and datasets, as JSON. By its id or its completion's."""
    store = invocation(context).store
    found = traffic.load_exchange(store, exchange)
    beside = {"pairs": reads.pairs_of(store, found.row.id), "datasets": reads.datasets_with(store, found.row.id)}
    whole.tell({**msgspec.to_builtins(found), **beside}, json)


@app.command("queue")
def queue(
    context: typer.Context,
    task: str,
    order: Annotated[reviews.Order, typer.Option(help="What comes first.")] = "oldest",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    json: Json = False,
) -> None:
    """Ids of answered, unreviewed exchanges, those first that a person should see first."""
    for one in reviews.queue(invocation(context).store, task, order, limit):
        typer.echo(codec.dumps({"id": one}) if json else one)


@app.command("export")
def export(context: typer.Context, file: Path, task: Task = None, arm: Arm = None, where: Where = None) -> None:
    """Every exchange that matches, redacted as it is stored, one JSON object a line."""
    count = bulk.export_all(desk(context), filter_of(task, arm, where), file)
    typer.echo(f"{count} exchanges in {file}")


@app.command("review")
def review(
    context: typer.Context,
    exchange: str,
    verdict: Annotated[reviews.Verdict, typer.Argument()],
    output: Annotated[str | None, typer.Option(help="The corrected output.")] = None,
) -> None:
    """Accept, reject or correct an exchange."""
    verbs.review(desk(context), exchange, verdict, output)
    typer.echo(f"{verdict}: {exchange}")


@app.command("review-all")
def review_all(
    context: typer.Context,
    verdict: Annotated[bulk.Verdict, typer.Argument()],
    task: Task = None,
    arm: Arm = None,
    where: Where = None,
    yes: Yes = False,
) -> None:
    """Accept or reject every exchange that matches."""
    run, wanted = desk(context), filter_of(task, arm, where)
    total, at = _sure(run.store, wanted, f"{verdict} all", yes)
    typer.echo(f"{verdict}: {bulk.review_all(run, wanted, verdict, total, at).sentence}")


@app.command("erase-all")
def erase_all(
    context: typer.Context, task: Task = None, arm: Arm = None, where: Where = None, yes: Yes = False
) -> None:
    """Delete every exchange that matches, with its copies in datasets."""
    run, wanted = desk(context), filter_of(task, arm, where)
    total, at = _sure(run.store, wanted, "erase all", yes)
    _tell(bulk.erase_all(run, wanted, total, at))


def _sure(store: Store, wanted: traffic.TrafficFilter, what: str, yes: bool) -> tuple[int, float | None]:
    """How many match, and up to when; asks whether they are meant, unless --yes says so."""
    at = traffic.end_of(store, wanted)
    total = traffic.count_exchanges(store, bulk.until(wanted, at))
    if not yes and not typer.confirm(f"{what} {total:,} exchanges?"):
        raise typer.Exit(1)
    return total, at


def filter_of(task: str | None, arm: str | None, where: list[str] | None) -> traffic.TrafficFilter:
    """A filter from the options. Raises UsageError for a part that there is not, or a value that does not suit it."""
    given: dict[str, Any] = {"task": task, "arm": arm}
    metadata: dict[str, str] = {}
    for part in where or ():
        name, equals, value = part.partition("=")
        if name.startswith("metadata."):
            metadata[name.removeprefix("metadata.")] = value
        elif not equals or name not in FIELDS:
            raise UsageError(f"--where {part!r}: write NAME=VALUE with NAME one of {', '.join(FIELDS)}, metadata.NAME")
        else:
            given[name] = value
    try:
        return msgspec.convert({**given, "metadata": metadata}, traffic.TrafficFilter, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"--where: {error}") from error


@app.command("erase")
def erase(
    context: typer.Context,
    exchanges: Annotated[list[str] | None, typer.Argument()] = None,
    user: Annotated[str | None, typer.Option(help="Everything of this user.")] = None,
) -> None:
    """Delete exchanges, or all of a user's, and say which datasets and students they had gone into."""
    _tell(verbs.erase(desk(context), exchanges or (), user))


def _tell(report: Erased) -> None:
    for line in report.lines():
        typer.echo(line)


def _row(found: Any) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(found)
    return row
