"""`stillhouse rollouts simulate`: made or recorded traffic through the very functions that decide live."""

import json as encoding
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from capture.errors import RefusedError, UsageError
from capture.settings import RolloutSettings
from console.cli.context import Json, desk, invocation
from students import figures, plots, recorded_traffic, rollouts, simulate
from students.made_traffic import GRADER, Plan, Slice
from students.playing import Look
from students.policy import Guardrail, Policy, policy_of
from students.sentences import percent, points
from students.simulate import Rate, Report, Spread

Points = Annotated[float, typer.Option(help="A rate, as a fraction of 1.")]
PLAYED_ANEW = frozenset(
    {
        *("margin", "alpha", "shares", "smallest", "minimum_pairs", "tick_every", "runs", "seed"),
        *("recorded", "speed", "folder", "json"),
    }
)
"""What there is to choose where the traffic is a recorded one; all else plants something in made traffic."""


def command(
    context: typer.Context,
    task: Annotated[str | None, typer.Option(help="Take this task's policy; without it the default one.")] = None,
    margin: Annotated[float | None, typer.Option(help="Another margin, as a fraction of 1.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Another α.")] = None,
    shares: Annotated[str | None, typer.Option(help="Another ladder: 0.1,0.5,0.95")] = None,
    smallest: Annotated[float | None, typer.Option(help="The harm that the guardrail lets pass.")] = None,
    minimum_pairs: Annotated[int | None, typer.Option(help="Another minimum of pairs at each stage.")] = None,
    teacher_wrong: Points = 0.05,
    student_wrong: Points = 0.05,
    slices: Annotated[list[str] | None, typer.Option("--slice", help="A bad slice: NAME:SHARE:WRONG")] = None,
    drift_at: Annotated[int | None, typer.Option(help="The session from which the student is worse.")] = None,
    drift_wrong: Points = 0.3,
    spread: Annotated[float, typer.Option(help="How unlike sessions are, from 0 up to 1.")] = 0.0,
    requests_per_session: Annotated[int, typer.Option(min=1)] = 1,
    every_request_paired: Annotated[bool, typer.Option(help="Break the rule of one pair a session.")] = False,
    delayed: Annotated[float, typer.Option(help="Truth comes so many sessions later, on average.")] = 0.0,
    duplicated: Points = 0.0,
    reordered: Annotated[int, typer.Option(help="Evidence comes up to so many places from where it belongs.")] = 0,
    outage: Annotated[str | None, typer.Option(help="The store is away: FIRST_SESSION:SESSIONS")] = None,
    watch_share: Annotated[float, typer.Option(help="The part of the sessions that is paired at full.")] = 1.0,
    sessions: Annotated[int, typer.Option(min=1)] = 3_000,
    sessions_per_hour: Annotated[float, typer.Option(min=0.001)] = 100.0,
    tick_every: Annotated[int, typer.Option(min=1, help="Pairs between two looks.")] = 25,
    runs: Annotated[int, typer.Option(min=1)] = 2_000,
    seed: int = 1,
    recorded: Annotated[str | None, typer.Option(help="Play this rollout's recorded pairs instead.")] = None,
    speed: Annotated[float | None, typer.Option(help="Watch the first run, so many times as fast as live.")] = None,
    promised: Annotated[bool, typer.Option("--figures", help="The figures that docs/rollouts.md prints.")] = False,
    folder: Annotated[Path | None, typer.Option("--plots", help="Write pictures (SVG) into this folder.")] = None,
    json: Json = False,
) -> None:
    """How often this policy errs, and how long it takes: rates with 95 % intervals, medians and 80th percentiles."""
    changes: dict[str, Any] = {"margin": margin, "alpha": alpha, "minimum_pairs": minimum_pairs}
    changes["shares"] = None if shares is None else tuple(_numbers("--shares", shares, float))
    if promised:
        _figures(runs, json)
        return
    if recorded is not None:
        _only_played_anew(context)
        plan = Plan(tick_every=tick_every, runs=runs, seed=seed)
        _recorded(context, recorded, (changes, smallest), plan, (speed, folder, json))
        return
    settings = desk(context).task(task).rollout if task else RolloutSettings()
    outage_at, outage_sessions = (None, 0) if outage is None else _numbers("--outage", outage, int, 2)
    plan = Plan(
        policy=_policy(settings, changes, smallest),
        teacher_wrong=teacher_wrong,
        student_wrong=student_wrong,
        slices=tuple(_slice(one) for one in slices or ()),
        drift_at=drift_at,
        drift_wrong=drift_wrong,
        spread=spread,
        requests_per_session=requests_per_session,
        every_request_paired=every_request_paired,
        delayed_sessions=delayed,
        duplicated=duplicated,
        reordered_within=reordered,
        outage_at=outage_at,
        outage_sessions=outage_sessions,
        watch_share=watch_share,
        sessions=sessions,
        sessions_per_hour=sessions_per_hour,
        tick_every=tick_every,
        runs=runs,
        seed=seed,
    )
    if speed is not None:
        _watch(simulate.looks(plan), speed)
    _tell(simulate.run(plan), folder, json)


def _policy(settings: RolloutSettings, changes: dict[str, Any], smallest: float | None) -> Policy:
    """The task's policy over made traffic, which has one grader: gated and guarded by it alone."""
    given = {name: value for name, value in changes.items() if value is not None}
    policy = policy_of(settings.model_copy(update={**given, "gates": (GRADER,), "guardrails": {}}), [GRADER])
    return policy if smallest is None else replace(policy, guardrails=(Guardrail(GRADER, smallest),))


def _only_played_anew(context: typer.Context) -> None:
    """Raises UsageError for an option that recorded traffic would pass over in silence."""
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if option.name not in PLAYED_ANEW and source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"{option.opts[0]} is about made traffic; with --recorded the traffic is what it was")


def _recorded(
    context: typer.Context,
    rollout_id: str,
    asked: tuple[dict[str, Any], float | None],
    plan: Plan,
    told: tuple[float | None, Path | None, bool],
) -> None:
    store = invocation(context).store
    rollout = rollouts.load_rollout(store, rollout_id)
    changes, smallest = asked
    given = {name: value for name, value in changes.items() if value is not None}
    policy = policy_of(rollout.policy.model_copy(update=given), rollout.policy.gates)
    if smallest is not None:
        policy = _guarded(policy, policy.gates[0], smallest)
    found = recorded_traffic.recorded_pairs(store, rollout_id)
    speed, folder, json = told
    if speed is not None:
        _watch(simulate.looks_recorded(found, policy, plan.tick_every), speed)
    _tell(simulate.run_recorded(found, policy, plan), folder, json)


def _guarded(policy: Policy, grader: str, smallest: float) -> Policy:
    """The policy with another smallest harm for one grader; the order of guardrails, and so their α, stays."""
    rails = {rail.metric: rail for rail in policy.guardrails}
    rails[grader] = replace(rails.get(grader, Guardrail(grader)), smallest=smallest)
    return replace(policy, guardrails=tuple(rails.values()))


def _slice(text: str) -> Slice:
    name, _, rest = text.partition(":")
    share, wrong = _numbers("--slice", rest, float, 2)
    return Slice(name, share, wrong)


def _numbers(option: str, text: str, kind: Any, count: int | None = None) -> list[Any]:
    """Numbers between commas, or `count` of them between colons."""
    try:
        found = [kind(part) for part in text.split(":" if count else ",")]
    except ValueError:
        found = []
    if not found or (count and len(found) != count):
        raise RefusedError(f"{option} {text!r} cannot be read: see `stillhouse rollouts simulate --help`")
    return found


def _watch(looks: Iterator[Look], speed: float) -> None:
    """Verdicts of one run as they would come, `speed` times as fast as live."""
    if speed <= 0:
        raise RefusedError(f"--speed must be above 0, not {speed:g}")
    before, said = 0.0, ""
    for look in looks:
        time.sleep((look.hours - before) * 3600 / speed)
        before = look.hours
        if look.verdict.sentence.partition("(")[0] != said:
            said = look.verdict.sentence.partition("(")[0]
            typer.echo(f"{look.hours:8.2f} h  {look.verdict.share:6.1%}  {look.verdict.sentence}")


def _tell(report: Report, folder: Path | None, json: bool) -> None:
    if json:
        typer.echo(encoding.dumps(_finite(_summary(report)), ensure_ascii=False))
    else:
        typer.echo("\n".join(_lines(report)))
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, picture in plots.pictures(report).items():
            (folder / name).write_text(picture, encoding="utf-8")


def _lines(report: Report) -> list[str]:
    policy, difference = report.policy, report.mean_difference
    planted = "recorded" if difference is None else f"planted {points(difference)} points"
    rates = [
        ("reached full", report.promoted),
        ("false promotions", report.false_promotions),
        ("misses", report.misses),
        ("rolled back", report.rolled_back),
        ("paused, a person asked", report.asked),
    ]
    spreads = [
        ("pairs to the proof", report.pairs_to_proof),
        ("pairs to full", report.pairs_to_full),
        ("pairs to a roll-back", report.pairs_to_roll_back),
        ("hours to a roll-back", report.hours_to_roll_back),
        ("wrong answers served before a roll-back", report.bad_answers),
    ]
    waits = [percent(share) for share in policy.wait_for_person_before]
    head = f"difference {planted}, margin {points(-policy.margin)} points, α {policy.alpha:g}"
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(report.reasons.items()))
    return [
        f"{head}, {len(report.endings):,} runs",
        *([f"{'a person agrees at once before':40}{', '.join(waits)}"] if waits else []),
        *(f"{name:40}{_rate(found)}" for name, found in rates if found is not None),
        *(f"{name:40}{_spread(found)}" for name, found in spreads if found.reached),
        f"{'ended by':40}{reasons}",
    ]


def _rate(found: Rate) -> str:
    interval = f"95 % interval {percent(found.low)} to {percent(found.high)}"
    return f"{percent(found.count / found.total):>8}  ({found.count:,} of {found.total:,}, {interval})"


def _spread(found: Spread) -> str:
    return f"median {_count(found.median)}, 80th percentile {_count(found.eightieth)}"


def _count(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"


def _finite(value: Any) -> Any:
    """JSON knows no infinity: it becomes null."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and math.isinf(value) else value


def _figures(runs: int, json: bool) -> None:
    measured = [figures.measure(figure) for figure in figures.promised(runs)]
    played = [(name, simulate.run(plan)) for name, plan in figures.scenarios(runs).items()]
    lengths = [figures.measure_run_length(name, plan) for name, plan in figures.undrifted(max(1, runs // 40)).items()]
    if json:
        for one in measured:
            row = {"name": one.figure.name, "pairs": asdict(one.pairs), "proven": asdict(one.proven), "kept": one.kept}
            typer.echo(encoding.dumps(_finite(row), ensure_ascii=False))
        for name, report in played:
            typer.echo(encoding.dumps(_finite({"name": name, **_summary(report)}), ensure_ascii=False))
        for length in lengths:
            typer.echo(encoding.dumps(_finite(asdict(length)), ensure_ascii=False))
        return
    typer.echo("\n".join([*_table(measured), "", *_played(played), "", *_lengths(lengths)]))


def _summary(report: Report) -> dict[str, Any]:
    return {name: value for name, value in asdict(report).items() if name not in ("endings", "proven_at")}


def _table(measured: Sequence[figures.Measured]) -> list[str]:
    rows = [
        "| what | median | 80th percentile | bar | proven | 95 % interval | reached |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in measured:
        figure, pairs, proven = one.figure, one.pairs, one.proven
        interval = f"{percent(proven.low)} to {percent(proven.high)}"
        cells = [
            figure.name,
            "–" if figure.false else _count(pairs.median),
            "–" if figure.false else _count(pairs.eightieth),
            figure.bar,
            percent(proven.count / proven.total),
            interval,
            ("yes" if one.kept else "no") if figure.bar != "none" else "–",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _played(played: Sequence[tuple[str, Report]]) -> list[str]:
    rows = [
        "| student, over a whole rollout | reached full | rolled back | pairs to full | pairs to roll-back |"
        " wrong answers before it |",
        "|---|---|---|---|---|---|",
    ]
    for name, report in played:
        cells = [name, _short(report.promoted), _short(report.rolled_back)]
        cells += [_two(report.pairs_to_full), _two(report.pairs_to_roll_back), _two(report.bad_answers)]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _short(found: Rate) -> str:
    return f"{percent(found.count / found.total)} ({percent(found.low)} to {percent(found.high)})"


def _two(found: Spread) -> str:
    return f"{_count(found.median)} / {_count(found.eightieth)}" if found.reached else "–"


def _lengths(found: Sequence[figures.RunLength]) -> list[str]:
    rows = [
        "| drift detector, student without drift | pairs watched | false alarms | pairs between them | at least |",
        "|---|---|---|---|---|",
    ]
    for one in found:
        cells = [one.name, f"{one.pairs:,}", f"{one.alarms:,}", _count(one.mean), _count(one.low)]
        rows.append(f"| {' | '.join(cells)} |")
    return rows
