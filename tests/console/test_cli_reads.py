"""What pages show, told by the command: every reading verb over the filled store, and what is typed wrongly."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from capture import datasets
from capture.db import Store
from console.cli import app, run
from console.cli.context import harmless
from students import rollouts
from students.tables import fine_tunes
from tests.factories.full_store import CONFIG, World

Full = tuple[World, Store]

ACTING = set(
    """
    init, up, gateway, worker, console, db upgrade,
    tasks apply, traffic export, traffic review, traffic review-all, traffic erase-all, traffic erase,
    datasets build, datasets import, datasets export, datasets relabel, datasets from-misses, students train,
    students cancel, students serve, students register, students vllm-command, evaluations run, evaluations rival,
    evaluations replay, rollouts start, rollouts pause, rollouts resume, rollouts promote, rollouts abort,
    loop begin, loop approve, loop stop, keys create, keys revoke, models pull
    """.strip()
    .replace("\n    ", " ")
    .split(", ")
)
"""Commands that do something; every other one reads."""


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]):
    """Runs one command that must succeed; its lines of JSON."""

    def told(*words: str) -> list[dict[str, Any]]:
        capsys.readouterr()
        assert run([*words]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return told


def test_what_home_shows(at_full: Full, said) -> None:
    triage = next(row for row in said("tasks", "status", "--json") if row["task"] == "triage")
    assert triage["stored"] == 181
    assert triage["quality_low"] < triage["quality"] < triage["quality_high"]
    assert "loop" in triage["waits"]


def test_prompt_versions_and_how_two_differ(at_full: Full, said, capsys: pytest.CaptureFixture[str]) -> None:
    newest, oldest = (row["fingerprint"] for row in said("tasks", "prompts", "triage", "--json"))
    assert run(["tasks", "diff", "triage", oldest[-8:], newest]) == 0
    assert "+A summary has at most twelve words." in capsys.readouterr().out
    assert run(["tasks", "diff", "triage", "", newest]) == 2
    assert "2 prompt versions" in capsys.readouterr().err


def test_a_task_is_tried_before_it_is_applied(at_full: Full, said, tmp_path) -> None:
    file = tmp_path / "tasks.toml"
    file.write_text(CONFIG, encoding="utf-8")
    triage, digest = said("tasks", "try", str(file), "--json")
    assert triage["rule"]["taken"] > 100
    assert triage["graders"][0]["scores"]
    assert digest["rule"]["taken"] == 0


def test_graders_against_people(at_full: Full, said) -> None:
    (row, _) = said("tasks", "agreement", "triage", "--json")
    assert row["grader"] == "category"
    assert 0 < row["low"] < row["agree"] < row["high"] < 1


def test_an_exchange_with_its_pairs_and_datasets(at_full: Full, capsys: pytest.CaptureFixture[str]) -> None:
    world, _ = at_full
    assert run(["traffic", "show", world.exchange]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["pairs"][0]["student"]
    assert {one["task"] for one in whole["datasets"]} == {"triage"}


def test_the_queue_of_reviews(at_full: Full, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["traffic", "queue", "triage", "--order", "uncertain", "--limit", "3"]) == 0
    first, *others = capsys.readouterr().out.split()
    assert len(others) == 2
    assert run(["traffic", "review", first, "accept"]) == 0
    capsys.readouterr()
    assert run(["traffic", "queue", "triage", "--limit", "1000"]) == 0
    assert first not in capsys.readouterr().out.split()


def test_datasets_rows_and_filters(at_full: Full, said, capsys: pytest.CaptureFixture[str]) -> None:
    world, store = at_full
    first, second = said("datasets", "rows", world.dataset, "--limit", "2", "--json")
    assert first["position"] < second["position"]
    assert (
        run(["datasets", "build", "triage", "--no-wait", "--where", "reviews=approved", "--where", "max_rows=5"]) == 0
    )
    built = capsys.readouterr().out.split()[0]
    assert datasets.load_card(store, built).filters["max_rows"] == 5
    (looked,) = [json.loads(_out(capsys, "datasets", "preview", "triage", "--where", "metadata.app=none"))]
    assert looked["passed"] == 0
    for wrong in ("rows=5", "max_rows=many", "reviews=maybe", "max_rows"):
        assert run(["datasets", "build", "triage", "--where", wrong]) == 2, wrong
        assert "--where" in capsys.readouterr().err


def _out(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert run([*words]) == 0
    return capsys.readouterr().out


def test_fine_tunes_their_events_and_what_one_would_take(at_full: Full, said, capsys) -> None:
    world, store = at_full
    assert {row["id"] for row in said("students", "fine-tunes", "--json")} == {"ftjob-done", "ftjob-running"}
    assert len([row for row in said("students", "events", world.fine_tune, "--json") if "loss" in row["data"]]) == 60
    taken = json.loads(_out(capsys, "students", "estimate", world.dataset))
    assert taken["seconds"] > 0
    assert taken["cost_usd"] == 0
    assert json.loads(_out(capsys, "students", "estimate", world.dataset, "--at", "stand-in"))["cost_usd"] is None
    assert run(["students", "train", world.dataset, "--no-wait", "--set", "rank=4"]) == 0
    told = capsys.readouterr()
    made = told.out.split()[0]
    assert f"`stillhouse evaluations rival {world.dataset}`" in told.err
    with store.read() as connection:
        row = connection.execute(fine_tunes.select().where(fine_tunes.c.id == made)).one()
    assert row.settings["rank"] == 4
    assert run(["students", "train", world.dataset, "--no-wait", "--set", "ranks=4"]) == 2
    assert "ranks" in capsys.readouterr().err


def test_evaluations(at_full: Full, said) -> None:
    world, _ = at_full
    assert {row["id"] for row in said("evaluations", "list", "--json")} == {"ev_done", "ev_running"}
    assert said("evaluations", "list", "--student", world.student, "--json")


def test_rollouts_pairs_trail_and_policy(at_full: Full, said, capsys: pytest.CaptureFixture[str]) -> None:
    world, store = at_full
    assert all(row["difference"] < 0 for row in said("rollouts", "pairs", world.rollout, "--json"))
    trail = said("rollouts", "trail", world.rollout, "category", "--json")
    assert trail[-1]["low"] > trail[0]["low"]
    assert "pairs at this stage" in _out(capsys, "rollouts", "status", world.rollout)
    lines = said("rollouts", "status", world.rollout, "--evidence", "--json")
    assert any("of the traffic" in line["of"] for line in lines if line["test"] == "next step")
    assert run(["rollouts", "pause", world.rollout, "--reason", "a talk"]) == 0
    assert run(["rollouts", "resume", world.rollout, "--reason", "it is over"]) == 0
    told = [verdict.sentence for verdict in rollouts.list_verdicts(store, world.rollout)[-2:]]
    assert [sentence.partition("because ")[2] for sentence in told] == ["a talk", "it is over"]
    assert run(["rollouts", "abort", world.rollout, "--reason", "anew"]) == 0
    assert run(["rollouts", "start", world.student, "--set", "margin=0.1", "--set", "shares=[0.5,0.95]"]) == 0
    newest = rollouts.list_rollouts(store)[0]
    assert (newest.policy.margin, newest.policy.shares) == (0.1, (0.5, 0.95))
    capsys.readouterr()
    assert run(["rollouts", "start", world.student, "--set", "margn=0.1"]) == 2
    assert "margn" in capsys.readouterr().err


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command with its whole name, without the groups."""
    for name, below in getattr(command, "commands", {}).items():
        yield from _commands(below, (*path, name))
    if not hasattr(command, "commands"):
        yield " ".join(path), command


def test_every_command_that_reads_takes_json() -> None:
    found = dict(_commands(typer.main.get_command(app)))
    without = {name for name, one in found.items() if not any("--json" in option.opts for option in one.params)}
    assert without == ACTING


def test_what_is_told_whole_is_one_line_by_json(at_full: Full, said) -> None:
    world, _ = at_full
    for line in (
        ("tasks", "show", "triage"),
        ("traffic", "show", world.exchange),
        ("datasets", "show", world.dataset),
        ("datasets", "diff", "triage@1", "triage@2"),
        ("datasets", "preview", "triage"),
        ("evaluations", "show", world.evaluation),
        ("students", "show", world.student),
        ("students", "estimate", world.dataset),
    ):
        (whole,) = said(*line, "--json")
        assert isinstance(whole, dict)
    assert all(row["id"] for row in said("traffic", "queue", "triage", "--json"))
    (diff,) = said("tasks", "diff", "triage", "a" * 9, "b" * 9, "--json")
    assert "+A summary has at most twelve words." in diff["diff"]


def test_processes_and_the_spool(at_full: Full, said) -> None:
    assert [row["name"] for row in said("operations", "processes", "--json")][-1] == "Spool"


def test_captured_control_characters_do_not_act_on_a_terminal(at_full: Full) -> None:
    assert harmless("a\x1b[2Jb\x07\x9bc\nd") == "a\ufffd[2Jb\ufffd\ufffdc\nd"
