"""`stillhouse rollouts`: traffic moves on proof."""

import time
from dataclasses import asdict
from typing import Annotated, Any

import typer

from capture.db import Store
from capture.graders.registry import default_graders
from capture.tasks import load_tasks
from console import verbs
from console.cli import simulating
from console.cli.accounts import show_ledgers
from console.cli.context import Json, changes_of, desk, invocation, show
from console.cli.waiting import POLL_S
from console.reads import rollouts as reads
from students import registry, rollout_start, rollouts
from students.evidence import Reading
from students.ledger import DAY_S
from students.sentences import policy_words, stage_name

app = typer.Typer(help="Rollouts: from shadow to full traffic, by verdicts.", no_args_is_help=True)
app.command("simulate")(simulating.command)
DONE = {True: "there", False: "missing"}
Reason = Annotated[str, typer.Option(help="Stands in the rollout's history.")]


@app.command("start")
def start(
    context: typer.Context,
    student: str,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Decide, and move nothing.")] = False,
    why: Annotated[str | None, typer.Option(help="Why a student without an evaluation may start.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE over the task's policy: margin=0.05, shares=[0.1,0.95]."),
    ] = None,
) -> None:
    """Start a student's rollout at shadow, by its task's policy."""
    run = desk(context)
    found = registry.load_student(run.store, student)
    policy = verbs.policy_of(run, found.task, changes_of(set_, "--set"))
    asked = rollout_start.Start(
        found.task, found.id, run.actor.name, policy, reason=why or "", force=why is not None, dry_run=dry_run
    )
    rollout = verbs.start_rollout(run, asked)
    typer.echo(rollout.id)
    for sentence in policy_words(reads.policy(rollout), default_graders(run.task(found.task))):
        typer.echo(f"  {sentence}", err=True)


@app.command("status")
def status(
    context: typer.Context,
    rollout: Annotated[str | None, typer.Argument(help="One rollout's verdicts; without it: all rollouts.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until it ends.")] = False,
    evidence: Annotated[bool, typer.Option("--evidence", help="What every test says now, slice by slice.")] = False,
    ledger: Annotated[bool, typer.Option("--ledger", help="What was spent and saved, by task and in total.")] = False,
    days: Annotated[float, typer.Option(min=0, help="How far back the ledger goes.")] = 30,
    json: Json = False,
) -> None:
    """Where rollouts stand, and why."""
    store = invocation(context).store
    if ledger:
        chosen = [rollouts.load_rollout(store, rollout).task] if rollout else sorted(load_tasks(store))
        show_ledgers(store, chosen, time.time() - days * DAY_S, json)
        return
    if rollout is None:
        heads = {
            "id": "id",
            "task": "task",
            "student_id": "student",
            "state": "state",
            "share": "share",
            "reason": "why",
        }
        show([asdict(found) for found in rollouts.list_rollouts(store)], heads, json)
        return
    found = rollouts.load_rollout(store, rollout)
    if evidence:
        _show_evidence(store, found, json)
        return
    _show_verdicts(store, rollout, follow, json)
    if not json:
        _show_needs(store, rollouts.load_rollout(store, rollout))


def _show_verdicts(store: Store, rollout: str, follow: bool, json: bool) -> None:
    last = ""
    while True:
        fresh = [verdict for verdict in rollouts.list_verdicts(store, rollout) if verdict.id > last]
        for verdict in fresh:
            _print(verdict, json)
            last = verdict.id
        if not follow or rollouts.load_rollout(store, rollout).state not in reads.MOVING:
            return
        time.sleep(POLL_S)


@app.command("pairs")
def pairs(
    context: typer.Context,
    rollout: str,
    grader: Annotated[str | None, typer.Option(help="By which; by default the policy's first gate.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    json: Json = False,
) -> None:
    """The pairs that the student lost by most, among the newest thousand."""
    store = invocation(context).store
    by = grader or reads.policy(rollouts.load_rollout(store, rollout)).gates[0]
    rows = [asdict(row) for row in reads.worst_pairs(store, rollout, by, limit)]
    heads = {"exchange_id": "exchange", "student": "student", "teacher": "teacher", "difference": "difference"}
    show(rows, {**heads, "served": "served", "error": "error"}, json)


@app.command("trail")
def trail(context: typer.Context, rollout: str, grader: str, json: Json = False) -> None:
    """A gate's confidence sequence: what was known after so many pairs."""
    points = [asdict(point) for point in reads.trail(invocation(context).store, rollout, grader)]
    show(points, {"pairs": "pairs", "mean": "difference", "low": "at least", "high": "at most"}, json)


@app.command("pause")
def pause(context: typer.Context, rollout: str, reason: Reason = "") -> None:
    """Keep the share where it is until somebody resumes."""
    _steer(context, "pause", rollout, reason)


@app.command("resume")
def resume(context: typer.Context, rollout: str, reason: Reason = "") -> None:
    """Let verdicts move the share again; one that waits for a person may enter its next stage, once proven."""
    _steer(context, "resume", rollout, reason)


@app.command("promote")
def promote(context: typer.Context, rollout: str, reason: Reason = "") -> None:
    """Go to the next stage whatever the evidence says; needs a reason."""
    _steer(context, "promote", rollout, reason)


@app.command("abort")
def abort(context: typer.Context, rollout: str, reason: Reason = "") -> None:
    """Give all the traffic back to the teacher and end the rollout; needs a reason."""
    _steer(context, "abort", rollout, reason)


def _steer(context: typer.Context, verb: str, rollout: str, reason: str) -> None:
    verbs.steer(desk(context), verb, rollout, reason)
    typer.echo(f"{verb}: {rollout}")


def _show_evidence(store: Store, rollout: rollouts.Rollout, json: bool) -> None:
    """A line for each gate, guardrail (everywhere and by slice) and drift detector, and for what both sides scored."""
    policy, found = reads.policy(rollout), reads.evidence(store, rollout, time.time())
    sides = reads.sides(store, rollout)
    lines = [_line("gate", gate.grader, "", policy.margin, gate.reading) for gate in found.gates]
    lines += [_line("guardrail", rail.metric, rail.slice, rail.smallest, rail.reading) for rail in found.guardrails]
    for drift in found.drifts:
        said = "drifted" if drift.alarmed else f"no alarm; a false one in {drift.run_length:,g} pairs"
        lines.append({"test": "drift", "of": drift.grader, "where": "lately", "mean": drift.recent_mean, "says": said})
    lines += [{"test": "next step", "of": text, "says": DONE[done]} for done, text in _needs(store, rollout)]
    if json:
        lines += [{"test": "scores", "of": both.grader, "where": "lately", **asdict(both)} for both in sides]
    heads = {"test": "test", "of": "of", "where": "where", "pairs": "pairs", "mean": "difference", "low": "at least"}
    show(lines, {**heads, "high": "at most", "says": "says"}, json)
    if not json:
        scored = (both.sentence for both in sides)
        for sentence in (*scored, *reads.waiting(store, rollout.id), *policy_words(policy)):
            typer.echo(sentence)
        if found.untested:
            typer.echo(f"{found.untested:,} pairs lie in slices that are not tested: there are too many values.")


def _needs(store: Store, rollout: rollouts.Rollout) -> list[tuple[bool, str]]:
    """What the next step asks for; nothing where there is none."""
    following = reads.following(rollout)
    if following is None:
        return []
    return reads.needs(reads.policy(rollout), reads.evidence(store, rollout, time.time()), following)


def _show_needs(store: Store, rollout: rollouts.Rollout) -> None:
    following = reads.following(rollout)
    if following is not None:
        typer.echo(f"next is {stage_name(following)}; it needs all of:")
    elif rollout.state in reads.MOVING:
        typer.echo(reads.AT_LAST_STAGE)
    for done, text in _needs(store, rollout):
        typer.echo(f"  {DONE[done]:8} {text}")


def _line(test: str, metric: str, where: str, size: float, reading: Reading | None) -> dict[str, Any]:
    row: dict[str, Any] = {"test": test, "of": metric, "where": where or "everywhere"}
    if reading is None:
        return {**row, "pairs": 0, "says": "nothing scored yet"}
    worse = f"worse by more than {size * 100:.3g} points"
    if test == "gate":
        claim = "proven" if reading.proven else f"proven {worse}" if reading.refuted else "not proven"
    else:
        claim = f"proven {worse}" if reading.proven else f"not {worse}" if reading.refuted else "no harm shown"
    return {
        **row,
        "pairs": reading.count,
        "mean": reading.mean,
        "low": reading.low,
        "high": reading.high,
        "says": claim,
    }


def _print(verdict: Any, json: bool) -> None:
    if json:
        show([asdict(verdict)], {}, as_json=True)
    else:
        clock = time.strftime("%H:%M:%S", time.localtime(verdict.at))
        typer.echo(f"{clock}  {verdict.share:6.1%}  {verdict.kind:9}  {verdict.sentence}")
