"""Every action by every role: called directly, the verb itself refuses; on a page, its button cannot be pressed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from capture.db import Store, metadata
from capture.errors import RefusedError, StillhouseError
from capture.settings import load
from capture.tables import audit
from capture.traffic import TrafficFilter
from console import bettering, bulk, evaluating, looping, registering, verbs
from console.access import Actor, Desk, Role
from students.asking import Asked
from students.rollout_start import Start
from tests.factories.full_store import World

Act = Callable[[Desk, World], Any]
RULE = {"match": {"model": "other"}, "teacher": {"upstream": "stand-in", "model": "gpt-4.1"}}
ONE = TrafficFilter(label="no such label")

ACTIONS: dict[str, tuple[Role, Act]] = {
    "review": (Role.REVIEWER, lambda desk, world: verbs.review(desk, world.exchange, "accept")),
    "review all": (Role.REVIEWER, lambda desk, _: bulk.review_all(desk, ONE, "accept", 9)),
    "save task": (Role.OPERATOR, lambda desk, _: verbs.save_task(desk, "other", RULE)),
    "build": (Role.OPERATOR, lambda desk, _: verbs.build_dataset(desk, "triage")),
    "export": (
        Role.OPERATOR,
        lambda desk, world: verbs.export_dataset(desk, world.dataset, "openai-sft", desk.settings.data / "rows.jsonl"),
    ),
    "import": (
        Role.OPERATOR,
        lambda desk, _: verbs.import_dataset(desk, "triage", "openai-sft", desk.settings.data / "nowhere.jsonl"),
    ),
    "export traffic": (
        Role.OPERATOR,
        lambda desk, _: bulk.export_all(desk, TrafficFilter(), desk.settings.data / "all.jsonl"),
    ),
    "train": (Role.OPERATOR, lambda desk, world: verbs.train(desk, world.dataset)),
    "cancel": (Role.OPERATOR, lambda desk, world: verbs.cancel_fine_tune(desk, world.running_fine_tune)),
    "serve": (Role.OPERATOR, lambda desk, world: verbs.serve(desk, world.student)),
    "evaluate": (Role.OPERATOR, lambda desk, world: evaluating.evaluate(desk, world.dataset, [world.student])),
    "rival": (Role.OPERATOR, lambda desk, world: evaluating.rival(desk, world.dataset)),
    "replay": (Role.OPERATOR, lambda desk, world: evaluating.replay(desk, "triage", [world.student], Asked())),
    "relabel": (Role.OPERATOR, lambda desk, world: bettering.relabel(desk, world.dataset, ("stand-in", "large"))),
    "misses": (Role.OPERATOR, lambda desk, world: bettering.build_from_misses(desk, "triage", world.student, 9)),
    "begin turn": (Role.OPERATOR, lambda desk, _: looping.begin_turn(desk, "triage")),
    "approve turn": (Role.OPERATOR, lambda desk, _: looping.approve_turn(desk, "nobody")),
    "stop turn": (Role.OPERATOR, lambda desk, _: looping.stop_turn(desk, "nobody")),
    "register": (Role.OPERATOR, lambda desk, _: registering.register_student(desk, "triage", ("stand-in", "small"))),
    "pull": (Role.OPERATOR, lambda desk, _: verbs.pull_base(desk, "tiny")),
    "vllm": (Role.OPERATOR, lambda desk, _: registering.vllm_lines(desk, ["nobody"], 8000)),
    "start": (Role.OPERATOR, lambda desk, world: verbs.start_rollout(desk, Start("triage", world.student, "x"))),
    "pause": (Role.OPERATOR, lambda desk, world: verbs.steer(desk, "pause", world.rollout)),
    "resume": (Role.OPERATOR, lambda desk, world: verbs.steer(desk, "resume", world.rollout)),
    "promote": (Role.OPERATOR, lambda desk, world: verbs.steer(desk, "promote", world.rollout, "why")),
    "abort": (Role.OPERATOR, lambda desk, world: verbs.steer(desk, "abort", world.rollout, "why")),
    "create key": (Role.OPERATOR, lambda desk, _: verbs.create_key(desk, "new")),
    "revoke key": (Role.OPERATOR, lambda desk, _: verbs.revoke_key(desk, "support app")),
    "erase": (Role.OPERATOR, lambda desk, world: verbs.erase(desk, [world.exchange])),
    "erase all": (Role.OPERATOR, lambda desk, _: bulk.erase_all(desk, ONE, 9)),
}
BUTTONS = {
    Role.VIEWER: (),
    Role.REVIEWER: ("Accept", "Reject", "Correct"),
}


def actions_done(store: Store) -> int:
    with store.read() as connection:
        return connection.scalar(select(func.count()).select_from(audit)) or 0


def reached(act: Act, desk: Desk, world: World) -> str:
    """Does it; says why the thing itself did not allow it (a second rollout, say), or nothing."""
    try:
        act(desk, world)
    except StillhouseError as error:
        return str(error)
    return ""


def test_each_action_called_by_each_role(at_full: tuple[World, Store], tmp_path: Path) -> None:
    """Refused below its role, without a trace; at its role it goes as far as the rules of the thing itself."""
    world, store = at_full
    settings = load(tmp_path / "stillhouse.toml", {}, data=tmp_path)
    for name, (needed, act) in ACTIONS.items():
        for role in Role:
            before = actions_done(store)
            desk = Desk(store, settings, Actor("someone", role))
            if role < needed:
                with pytest.raises(RefusedError, match=f"needs the role {needed.name.lower()}"):
                    act(desk, world)
                assert actions_done(store) == before, name
                continue
            refusal = reached(act, desk, world)
            assert "needs the role" not in refusal, name
            assert refusal or actions_done(store) == before + 1, name


SIGNED_BY_ROWS = {"review all", "erase", "erase all"}
"""Too many rows for one transaction: each review and each tombstone names who did it."""


UNDONE = {
    *("review", "save task", "build", "train", "cancel", "serve", "register", "evaluate", "rival", "relabel", "misses"),
    *("pause", "promote", "abort", "create key", "revoke key"),
}
"""What would have been done, had there been room for its line."""


def test_an_action_whose_line_cannot_be_written_changes_nothing(at_full: tuple[World, Store], tmp_path: Path) -> None:
    world, store = at_full
    desk = Desk(store, load(tmp_path / "stillhouse.toml", {}, data=tmp_path), Actor("someone", Role.OPERATOR))
    with store.write() as connection:
        refusal = "CREATE TRIGGER no_more BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no room'); END"
        connection.execute(text(refusal))
    before, undone = everything(store), set()
    for name in ACTIONS.keys() - SIGNED_BY_ROWS:
        try:
            reached(ACTIONS[name][1], desk, world)
        except DBAPIError:
            undone.add(name)
        assert everything(store) == before, name
    assert undone >= UNDONE


def everything(store: Store) -> list[Any]:
    with store.read() as connection:
        return [connection.execute(select(table)).all() for table in metadata.sorted_tables]


def test_no_verb_is_missing_from_this_file() -> None:
    public = {
        name
        for module in (verbs, bulk, bettering, evaluating, looping, registering)
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", "").startswith("console.") and not name.startswith("_")
        if "desk" in getattr(value, "__code__", test_no_verb_is_missing_from_this_file.__code__).co_varnames[:1]
    }
    tried = {name for _, act in ACTIONS.values() for name in act.__code__.co_names}
    reading = {"lines", "policy_of"}
    assert public - tried - reading == set()


@pytest.mark.parametrize("role", [Role.VIEWER, Role.REVIEWER])
def test_pages_offer_what_the_role_allows(role: Role, at_full: tuple[World, Store], look, monkeypatch) -> None:
    world, _ = at_full
    monkeypatch.setenv("STILLHOUSE_CONSOLE__ROLE", role.name.lower())
    pages = {
        "traffic": {"exchange": world.exchange},
        "datasets": {"dataset": world.dataset},
        "tasks": {},
        "operations": {},
        "rollouts": {"rollout": world.rollout},
        "students": {"student": world.student},
    }
    for page, query in pages.items():
        at = look(page, **query)
        assert not at.exception
        pressable = {one.label for one in at.button if not one.disabled}
        acts = pressable & ACTS
        assert acts == set(BUTTONS[role]) & acts, page
        if page == "traffic":
            assert acts == set(BUTTONS[role])


ACTS = {
    "Accept",
    "Reject",
    "Correct",
    "Build",
    "Save",
    "Create",
    "Revoke",
    "Start training",
    "Start evaluation",
    "Start in shadow",
    "Serve",
    "Stop serving",
    "Yes, pause",
    "Yes, promote",
    "Yes, abort",
    "Yes, cancel it",
    "Yes, erase it",
    "Make the file",
    "Begin a turn",
    "Let it train",
    "Yes, stop it",
    "Answer it anew",
    "Build from misses",
    "Register",
}
