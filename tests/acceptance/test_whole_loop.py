"""The whole loop with the tiny model: the demo's own two acts, real processes, nothing simulated."""

import io
import re
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from capture import datasets
from capture import settings as configuration
from capture.db import Store, open_store
from capture.migrations import upgrade
from console import verbs
from console.access import Actor, Desk, Role
from console.reads.evaluations import Evaluation, list_evaluations
from examples.demo.__main__ import main
from examples.demo.folder import goes_on
from examples.demo.machine import Machine
from examples.demo.screen import Screen
from examples.demo.story import TASK, Story
from examples.demo.world import Ports
from students import registry, rollouts
from students.ledger import Ledger, account
from students.tables import fine_tunes
from tests.acceptance.small_world import SMALL
from tests.fakes.processes import family, free_port, wait_until

pytestmark = pytest.mark.timeout(1200)  # a whole demo each, on a machine that may be busy


@dataclass(frozen=True)
class Trained:
    """A demo's data folder at rest, after its evaluation; and what came of training twice on the same rows."""

    data: Path
    dataset_hashes: tuple[str | None, str | None]
    weights: tuple[str | None, str | None]


def _ports() -> Ports:
    return Ports(*(free_port() for _ in range(5)))


@contextmanager
def _running(data: Path) -> Iterator[tuple[Story, Machine]]:
    machine = Machine(SMALL, _ports(), data)
    machine.prepare()
    settings = configuration.load(machine.config, machine.environ, data=data)
    with machine.running():
        store = open_store(settings.store_url)
        upgrade(store)
        desk = Desk(store, settings, Actor("tester", Role.OPERATOR))
        yield Story(SMALL, machine, desk, Screen(io.StringIO())), machine
        store.close()


def _processes_of(module: str, data: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if module in line and str(data) in line:
            found.append(process)
    return found


def _kill_worker_in_training(story: Story, data: Path) -> None:
    """Training is begun; the worker and its trainer die with -9 in the middle of it; the rest is stopped."""
    fine_tune_id = verbs.train(story.desk, story.dataset_id)

    def half_way() -> bool:
        progress = story._row(fine_tunes, fine_tune_id).progress or {}
        return bool(progress.get("step", 0) >= 0.3 * progress.get("total_steps", 1_000_000))

    wait_until(half_way, within_s=300)
    workers = _processes_of("students.worker", data)
    assert workers
    for worker in workers:
        for process in [*family(worker.pid), worker]:
            process.send_signal(signal.SIGKILL)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    data = tmp_path_factory.mktemp("demo") / "data"
    with _running(data) as (story, _):
        story.fetch_base()
        story.collect()
        story.build()
        before = datasets.load_card(story.desk.store, story.dataset_id).hash
        _kill_worker_in_training(story, data)
    with _running(data) as (story, _):
        story.collect()
        story.build()
        after = datasets.load_card(story.desk.store, story.dataset_id).hash
        story.train()
        resumed = registry.load_student(story.desk.store, story.student_id).weights_hash
        verbs.train(story.desk, story.dataset_id)
        story.train()
        undisturbed = registry.load_student(story.desk.store, story.student_id).weights_hash
        story.evaluate()
    return Trained(data, (before, after), (resumed, undisturbed))


def test_killed_in_training_and_started_again_it_ends_the_same(trained: Trained) -> None:
    before, after = trained.dataset_hashes
    assert before
    assert before == after
    resumed, undisturbed = trained.weights
    assert resumed
    assert resumed == undisturbed


def test_both_acts(trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Shadow, canary, full; a killed server that no client notices; a spoilt student that is rolled back."""
    data = tmp_path / "data"
    shutil.copytree(trained.data, data)
    assert main(_options(data), SMALL) == 0
    said = capsys.readouterr().out
    assert re.search(r"client errors: 0 of \d+ requests\n", said)
    assert "All of it did what it says" in said
    with _store(data) as store:
        rollout, verdicts = _rollout(store)
        _check_arms(said, account(store, TASK, 0, time.time()))
        (evaluation,) = list_evaluations(store, TASK)
        _check_scores(said, evaluation)
    moves = [(verdict.kind, verdict.share) for verdict in verdicts if verdict.kind != "hold"]
    assert [move for move in moves if move[0] == "advance"] == [("advance", 0.2), ("advance", 0.95)]
    assert moves[-1] == ("roll_back", 0.0)
    assert rollout.state == "rolled_back"
    assert not goes_on(data)


def _check_arms(said: str, ledger: Ledger) -> None:
    """The printed table by arm has the ledger's numbers, and says which prices are real."""
    names = {
        "teacher": ("teacher (a stand-in)", "(a made-up price)"),
        "student": ("student", "(it runs here)"),
        "fallback": ("fallback (a stand-in)", "(a made-up price)"),
    }
    assert ledger.arms.keys() == names.keys()
    for arm, (name, price) in names.items():
        (cells,) = _rows(said, name, after="What clients got, by arm")
        totals = ledger.arms[arm]
        assert cells[0] == str(totals.requests)
        assert cells[-1] == f"{totals.cost_usd:.4f} {price}"
    assert ledger.arms["teacher"].cost_usd > 0
    assert ledger.arms["student"].cost_usd == 0


def _check_scores(said: str, evaluation: Evaluation) -> None:
    assert evaluation.report is not None
    for arm in evaluation.report.arms:
        (cells,) = _rows(said, "teacher (a stand-in)" if arm.role == "teacher" else arm.role, after="On the sealed")
        assert cells[0] == str(arm.rows)
        assert cells[1].startswith(f"{arm.scores['category'].mean:.1%}")


def _rows(said: str, name: str, after: str) -> list[list[str]]:
    """The other cells of the rows that begin with `name`, in the table whose title begins with `after`."""
    table = said.partition(after)[2].partition("└")[0]
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in table.splitlines() if "│" in line]
    return [cells for first, *cells in rows if first == name]


def test_a_student_bad_from_the_start_does_not_reach_full(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(trained.data, data)
    assert main([*_options(data), "--spoil-first"], SMALL) == 1
    said = capsys.readouterr().out
    assert "The demo failed: the rollout ended rolled_back, not full" in said
    assert "Start it again and it begins anew" in said
    with _store(data) as store:
        rollout, verdicts = _rollout(store)
    assert rollout.state == "rolled_back"
    assert max(verdict.share for verdict in verdicts) < 0.95
    assert not goes_on(data)


def _options(data: Path) -> list[str]:
    ports = vars(_ports()).items()
    return ["--data", str(data), *(word for name, port in ports for word in (f"--{name}-port", str(port)))]


@contextmanager
def _store(data: Path) -> Iterator[Store]:
    store = open_store(configuration.load(data / "stillhouse.toml", {}, data=data).store_url)
    yield store
    store.close()


def _rollout(store: Store) -> tuple[rollouts.Rollout, list[rollouts.VerdictRow]]:
    [rollout] = rollouts.list_rollouts(store, TASK)
    return rollout, rollouts.list_verdicts(store, rollout.id)
