"""`stillhouse operations`: what the console's page of that name shows."""

import time
from dataclasses import asdict
from typing import Annotated

import typer

from capture.reconcile import reconcile
from console.cli.context import Json, invocation, show
from console.reads import operations as reads
from console.reads import upstreams

app = typer.Typer(help="Counters, upstreams, the audit trail, the settings in effect.", no_args_is_help=True)


@app.command("processes")
def processes(context: typer.Context, json: Json = False) -> None:
    """Who is alive, and what lies in the spool."""
    run = invocation(context)
    rows = [asdict(process) for process in reads.processes(run.store, run.settings, time.time())]
    depth = reads.spool_depth(run.settings.spool_folder)
    rows.append({"name": "Spool", "detail": f"{depth.bytes:,} bytes in {depth.segments:,} segments", **asdict(depth)})
    show(rows, {"name": "process", "alive": "alive", "seen_ago_s": "seen seconds ago", "detail": "detail"}, json)


@app.command("counters")
def counters(
    context: typer.Context,
    count: Annotated[bool, typer.Option("--count", help="Count every record that waits in the spool.")] = False,
    json: Json = False,
) -> None:
    """What became of every exchange that was seen, by task."""
    run = invocation(context)
    found = reconcile(run.store, run.settings.spool_folder, counted=count)
    rows = [
        {"task": task, **asdict(balance), "difference": balance.difference if count else None}
        for task, balance in found.items()
    ]
    names = ("task", "seen", "stored", "pending", "sampled_out", "opted_out", "erased", "dropped", "difference")
    show(rows, {name: name.replace("_", " ") for name in names}, json)


@app.command("upstreams")
def fares(context: typer.Context, json: Json = False) -> None:
    """How upstreams fared in the last hour, and which the gateway leaves alone."""
    run = invocation(context)
    found, circuits = upstreams.health(run.store, time.time()), upstreams.circuits(run.settings)
    rows = []
    for name in run.settings.upstreams:
        state = None if circuits is None else circuits.get(name, "closed")
        figures = asdict(found[name]) if name in found else {"requests": 0}
        rows.append({"upstream": name, "circuit": state, **figures})
    heads = {"upstream": "upstream", "circuit": "circuit", "requests": "requests", "failed": "failed"}
    show(rows, {**heads, "first_ms": "mean ms to first content"}, json)


@app.command("audit")
def audit(
    context: typer.Context,
    before: Annotated[str | None, typer.Option(help="Only older than this line.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    json: Json = False,
) -> None:
    """Who did what, newest first."""
    rows = [asdict(row) for row in reads.list_audit(invocation(context).store, before, limit)]
    show(rows, {"id": "id", "at": "at", "who": "who", "action": "action", "subject": "subject"}, json)


@app.command("settings")
def settings(context: typer.Context, json: Json = False) -> None:
    """The settings in effect, secrets hidden."""
    hidden = reads.hidden(invocation(context).settings)
    rows = [{"name": name, "value": value} for name, value in hidden.items()]
    show(rows, {"name": "name", "value": "value"}, json)
