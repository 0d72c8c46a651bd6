"""A judge that has its licence: exchanges that people reviewed, and that it really scored."""

import json
from typing import Any

from capture import reviews, scoring
from capture.db import Store
from capture.judges import TaskJudges
from capture.licences import licences
from capture.settings import Settings, TaskSettings
from students.caps import Caps
from tests.factories.store import NOON, add_exchange

JUDGE = {
    "type": "score_model",
    "upstream": "court",
    "model": "judge-1",
    "range": [1, 5],
    "input": "Ticket: {{item.input}}\nAnswer: {{sample.output_text}}",
}
"""Asks upstream `court` whether the answer names what the ticket is about."""

LABELS = ("card", "loan", "account", "transfer")


def judge(request: dict[str, Any]) -> str:
    """What the court says: 5 for the label that the ticket speaks of, 1 for another."""
    ticket, _, answer = request["messages"][-1]["content"].partition("Answer:")
    return json.dumps({"score": 5 if any(label in answer and label in ticket for label in LABELS) else 1})


def license_judges(store: Store, settings: Settings, task: TaskSettings) -> None:
    """Twenty tickets of `triage` that people accepted or rejected, scored by the task's judges, who agree."""
    for number in range(20):
        label = LABELS[number % len(LABELS)]
        said = json.dumps({"category": label if number < 10 else "other"})
        identity = add_exchange(store, text=f"old ticket {number} about my {label}", answer=said)
        reviews.review(store, identity, "accept" if number < 10 else "reject", None, "ann", lambda: NOON)
    caps = Caps(store, settings, lambda: NOON)
    scoring.score_new(store, {"triage": task}, lambda: NOON)
    scoring.judge_next(
        store,
        {"triage": task},
        lambda name, task: TaskJudges(store, settings, (name, task), caps, lambda: NOON),
        lambda: NOON,
    )
    obstacles = {one.obstacle for one in licences(store, "triage", task).values()}
    assert obstacles == {None}, obstacles
