"""`stillhouse rollouts`: simulations by the command, and what it shows of evidence."""

import json
import time
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest
from sqlalchemy import update

from capture.db import Store
from capture.settings import RolloutSettings, TaskSettings, TeacherSettings
from capture.tasks import save_task
from console.cli import run
from console.reads import rollouts as reads
from students import rollouts
from students.tables import rollouts as rollout_table
from tests.factories.full_store import World
from tests.factories.store import add_exchange

QUICK = ["rollouts", "simulate", "--margin", "0.1", "--minimum-pairs", "25", "--sessions", "500", "--runs", "40"]


@pytest.fixture
def no_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Made traffic needs neither settings nor a store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STILLHOUSE_CONFIG", raising=False)
    monkeypatch.delenv("STILLHOUSE_DATA", raising=False)
    return tmp_path


def test_rates_with_intervals_and_pictures(no_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*QUICK, "--plots", "plots"]) == 0
    said = capsys.readouterr().out
    for words in ("planted 0.0 points", "misses", "95 % interval", "80th percentile", "40 of 40"):
        assert words in said
    fromstring((no_config / "plots" / "pairs.svg").read_text())
    assert not (no_config / "data").exists()


def test_a_margin_given_in_one_place_is_what_decides(no_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*QUICK, "--student-wrong", "0.12", "--json"]) == 0
    wide = json.loads(capsys.readouterr().out)
    narrow = [word if word != "0.1" else "0.02" for word in QUICK]
    assert run([*narrow, "--student-wrong", "0.12", "--json"]) == 0
    strict = json.loads(capsys.readouterr().out)
    assert wide["false_promotions"] is None
    assert strict["false_promotions"]["count"] == 0
    assert wide["promoted"]["count"] > strict["promoted"]["count"]
    assert strict["pairs_to_full"]["median"] is None


def test_everything_can_be_planted_at_once_and_watched(no_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted = [
        "--slice",
        "fr:0.2:0.3",
        "--drift-at",
        "300",
        "--drift-wrong",
        "0.8",
        "--spread",
        "0.3",
        "--delayed",
        "5",
    ]
    planted += ["--requests-per-session", "2", "--duplicated", "0.1", "--reordered", "10", "--outage", "200:30"]
    assert run([*QUICK, *planted, "--speed", "1e9"]) == 0
    said = capsys.readouterr().out
    assert "Held at shadow" in said
    assert "Rolled back" in said
    assert "wrong answers served before a roll-back" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--margin", "0"], "margin must lie between 0 and 1"),
        (["--alpha", "1"], "alpha"),
        (["--shares", "0.5,0.2"], "shares must rise"),
        (["--shares", "a"], "--shares 'a' cannot be read"),
        (["--slice", "fr"], "--slice '' cannot be read"),
        (["--outage", "5"], "--outage"),
        (["--speed", "0"], "--speed must be above 0"),
        (["--slice", "fr:1.5:0.3"], "the share of slice fr must lie in [0, 1], not 1.5"),
        (["--slice", "fr:0.6:0.3", "--slice", "de:0.6:0.3"], "shares must not add up to more than 1"),
        (["--slice", "fr:0.1:0.3", "--slice", "fr:0.1:0.3"], "slice fr is named twice"),
        (["--spread", "1"], "spread must lie in [0, 1), not 1"),
        (["--student-wrong", "2"], "student_wrong must lie in [0, 1], not 2"),
        (["--drift-at", "-1"], "drift_at must not be negative"),
        (["--delayed", "-3"], "delayed must not be negative"),
        (["--outage", "5:-5"], "the outage must not be negative"),
        (["--seed", "-1"], "seed must not be negative"),
        (["--duplicated", "nan", "--speed", "1e9"], "duplicated must lie in [0, 1]"),
    ],
)
def test_what_cannot_be_simulated_is_refused_with_the_reason(
    words: list[str], said: str, no_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["rollouts", "simulate", "--runs", "2", "--sessions", "50", *words]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


def test_a_person_who_is_waited_for_is_taken_to_agree(at_empty: Store, capsys: pytest.CaptureFixture[str]) -> None:
    teacher = TeacherSettings(upstream="openai", model="gpt-5-mini")
    save_task(at_empty, "triage", TaskSettings(teacher=teacher, rollout=RolloutSettings(wait_for_person_before=(0.5,))))
    assert run([*QUICK, "--task", "triage"]) == 0
    said = capsys.readouterr().out
    assert f"{'a person agrees at once before':40}50 %" in said
    assert "40 of 40" in next(line for line in said.splitlines() if line.startswith("reached full"))


def test_recorded_traffic_and_its_evidence(at_full: tuple[World, Store], capsys: pytest.CaptureFixture[str]) -> None:
    run(["rollouts", "status", "--json"])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    chosen = next(one["id"] for one in found if one["evidence"].get("tally"))
    assert run(["rollouts", "simulate", "--recorded", chosen, "--runs", "20", "--speed", "1e12"]) == 0
    said = capsys.readouterr().out
    assert "difference recorded" in said
    assert "of 20" in said
    assert run(["rollouts", "status", chosen, "--evidence", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["test"] for line in lines} == {"gate", "guardrail", "drift", "next step", "scores"}
    assert any("=" in line["where"] for line in lines)
    assert run(["rollouts", "status", chosen, "--evidence"]) == 0
    said = capsys.readouterr().out
    assert "A drift detector watches" in said
    assert "By category the student scores" in said
    assert run(["rollouts", "simulate", "--recorded", "nobody"]) == 2
    capsys.readouterr()
    assert run(["rollouts", "simulate", "--recorded", chosen, "--student-wrong", "0.3"]) == 2
    assert "--student-wrong is about made traffic" in capsys.readouterr().err
    for smallest in ("0.4", "0"):
        assert run(["rollouts", "simulate", "--recorded", chosen, "--runs", "5", "--smallest", smallest, "--json"]) == 0
    wide, strict = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert [rail["smallest"] for rail in wide["policy"]["guardrails"] if rail["metric"] == "category"] == [0.4]
    assert strict["policy"]["guardrails"] != wide["policy"]["guardrails"]


def test_a_dry_run_at_its_last_stage_has_no_next_step(
    at_full: tuple[World, Store], look, capsys: pytest.CaptureFixture[str]
) -> None:
    """It never becomes full: command and page say so alike."""
    world, store = at_full
    last = len(rollouts.load_rollout(store, world.rollout).policy.shares)
    with store.write() as connection:
        at_last = update(rollout_table).where(rollout_table.c.id == world.rollout)
        connection.execute(at_last.values(dry_run=True, state="running", stage=last, share=0.0))
    assert run(["rollouts", "status", world.rollout]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == reads.AT_LAST_STAGE
    assert run(["rollouts", "status", world.rollout, "--evidence"]) == 0
    assert "next step" not in capsys.readouterr().out
    at = look("rollouts", rollout=world.rollout)
    assert not at.exception
    assert reads.AT_LAST_STAGE in {element.value for element in at.markdown}
    assert "Yes, promote" not in {button.label for button in at.button}


@pytest.mark.parametrize("more", [[], ["--json"], ["--evidence"], ["--follow", "--json"]])
def test_a_rollout_that_there_is_not(more: list[str], at_empty: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rollouts", "status", "nope", *more]) == 2
    assert "no rollout 'nope'" in capsys.readouterr().err


@pytest.mark.parametrize("state", ["full", "superseded", "rolled_back"])
def test_following_ends_with_the_rollout(state: str, at_full: tuple[World, Store]) -> None:
    world, store = at_full
    with store.write() as connection:
        connection.execute(update(rollout_table).where(rollout_table.c.id == world.rollout).values(state=state))
    assert run(["rollouts", "status", world.rollout, "--follow", "--json"]) == 0


def test_the_ledger_by_task_and_in_total(at_full: tuple[World, Store], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rollouts", "status", "--ledger", "--days", "10000", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["task"] == "all"
    assert (
        sum(line["arms"].get("teacher", {}).get("requests", 0) for line in lines[:-1])
        == (lines[-1]["arms"]["teacher"]["requests"])
    )
    assert run(["rollouts", "status", "--ledger", "--days", "10000"]) == 0
    said = capsys.readouterr().out
    for word in ("would", "saved", "unknown", "USD"):
        assert word in said


def test_a_model_s_name_from_a_request_does_not_act(
    at_full: tuple[World, Store], look, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither on a page nor on a terminal: the ledger names models without a price."""
    world, store = at_full
    add_exchange(store, served_model="![x](http://127.0.0.1:9/pixel)\x1b[2J", cost_usd=None, started_at=time.time())
    at = look("rollouts", rollout=world.rollout)
    at = at.toggle(key="ledger").set_value(True).run()
    (said,) = (element.value for element in at.caption if element.value.startswith("No price is known"))
    assert "pixel" in said
    assert "![" not in said
    assert "://1" not in said
    assert run(["rollouts", "status", "--ledger"]) == 0
    told = capsys.readouterr().out
    assert "![x](http://127.0.0.1:9/pixel)\ufffd[2J" in told
    assert "\x1b" not in told
