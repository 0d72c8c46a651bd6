"""How the ledger is printed: by task and in total; what is unknown says so."""

import time
from collections.abc import Sequence
from dataclasses import asdict

import typer

from capture.db import Store
from capture.exchange import Arm
from console.cli.context import harmless, show
from students.ledger import ArmTotals, Ledger, accounts, total

UNKNOWN = "unknown"
PURPOSES = ("shadow", "pairing", "judge", "training")


def show_ledgers(store: Store, tasks: Sequence[str], since: float, json: bool) -> None:
    """What answers cost and saved from `since` (Unix seconds) until now, in US dollars."""
    now = time.time()
    found = accounts(store, tasks, since, now)
    whole = [*found, total(found, now)] if len(found) != 1 else found
    if json:
        show([{**asdict(ledger), "task": ledger.task or "all"} for ledger in whole], {}, as_json=True)
        return
    for ledger in whole:
        typer.echo(ledger.task or "all tasks")
        for what, value in _lines(ledger, now):
            typer.echo(f"  {what:18}{value}")
        if ledger.since > since:
            typer.echo(f"  counted from {_day(ledger.since)} on: what is older has expired")
        if ledger.unpriced_models:
            names = harmless(", ".join(ledger.unpriced_models))
            typer.echo(f'  no price is known for {names}: set [prices."NAME"]')


def _lines(ledger: Ledger, now: float) -> list[tuple[str, str]]:
    gained = ledger.latency_gained_ms
    lines = [(f"{arm} answers", _cost(ledger.arms.get(arm))) for arm in (Arm.TEACHER, Arm.STUDENT, Arm.FALLBACK)]
    purposes = dict.fromkeys((*PURPOSES, *ledger.background))
    lines += [(purpose, _usd(ledger.background.get(purpose, 0.0))) for purpose in purposes]
    lines += [("of unknown price", f"{ledger.unpriced_calls:,} background calls")] if ledger.unpriced_calls else []
    return [
        *lines,
        ("would have cost", _usd(ledger.would_have_cost_usd)),
        ("saved", _usd(ledger.saved_usd)),
        ("paid for by", _date(ledger, now)),
        ("sooner by", UNKNOWN if gained is None else f"{gained:,.0f} ms"),
    ]


def _cost(arm: ArmTotals | None) -> str:
    if arm is None:
        return "none"
    unpriced = f" + {arm.unpriced:,} of unknown price" if arm.unpriced else ""
    return f"{_usd(arm.cost_usd)} ({arm.requests:,}){unpriced}"


def _usd(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.2f} USD"


def _date(ledger: Ledger, now: float) -> str:
    if ledger.break_even_at is None:
        return UNKNOWN if ledger.saved_usd is None else "never"
    return "now" if ledger.break_even_at <= now else _day(ledger.break_even_at)


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at))
