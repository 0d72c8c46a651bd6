"""The forms that start an evaluation: of students on a holdout, of a base by prompting alone, on replayed traffic."""

from collections.abc import Sequence

import streamlit as st

from capture import datasets
from capture.datasets import Filters
from console import evaluating
from console.views import page
from students import registry
from students.asking import Asked, Contender, Referee, Replay

HOLDOUT, RIVAL, REPLAY = "On a sealed holdout", "A base by prompting alone", "On captured traffic"
QUEUED = "The evaluation is queued; the worker takes it from here"


def form(task: str | None) -> None:
    ready = [card for card in page.ask(datasets.list_datasets, task) if card.state == "ready"]
    if not ready:
        return
    box = st.expander("Start an evaluation", icon=":material/add:", key="evaluation", on_change="rerun")
    if not box.open:
        return
    with box:
        kind = st.radio("What", [HOLDOUT, RIVAL, REPLAY], key="evaluate-kind", horizontal=True)
        able = [student for student in page.ask(registry.list_students, task) if student.kind != "base"]
        if kind == REPLAY:
            _replay(able)
        elif kind == RIVAL:
            _rival(ready)
        else:
            _holdout(ready, able)


def _holdout(ready: Sequence[datasets.Card], able: Sequence[registry.Student]) -> None:
    card = _dataset("Holdout of", ready)
    chosen = _students(card.task, able)
    base = st.checkbox("Also their untuned base", value=True, key="evaluate-base")
    asked = _asked()
    if _started():
        with page.acting(QUEUED):
            evaluating.evaluate(page.desk(), card.id, chosen, base, asked)


def _rival(ready: Sequence[datasets.Card]) -> None:
    st.caption("Before anything is trained: does the untuned base reach the bar with examples in its prompt?")
    card = _dataset("Holdout of", ready)
    examples = st.number_input("Examples in its prompt", 0, 32, 4, key="evaluate-examples", width=220)
    if _started():
        with page.acting(QUEUED):
            evaluating.rival(page.desk(), card.id, None, examples)


def _replay(able: Sequence[registry.Student]) -> None:
    st.caption("Rows like those that a student was trained on are left out.")
    task = st.selectbox("Task", page.task_names(), key="evaluate-task", width=320)
    chosen = _students(task, able)
    with st.container(horizontal=True):
        since = st.date_input("From", None, key="evaluate-since", width=160)
        until = st.date_input("To", None, key="evaluate-until", width=160)
        rows = st.number_input("Rows, at most", 1, 10_000, 200, key="evaluate-rows", width=160)
    asked = _asked(Replay(Filters(since=page.midnight(since), until=page.day_end(until)), rows))
    if _started():
        with page.acting(QUEUED):
            evaluating.replay(page.desk(), task, chosen, asked)


def _dataset(label: str, ready: Sequence[datasets.Card]) -> datasets.Card:
    known = {card.id: card for card in ready}
    chosen = st.selectbox(
        label, list(known), format_func=lambda one: known[one].name, key="evaluate-dataset", width=320
    )
    return known[chosen]


def _students(task: str, able: Sequence[registry.Student]) -> list[str]:
    names = {student.id: student.name for student in able if student.task == task}
    return st.multiselect(
        "Students",
        list(names),
        format_func=lambda one: names[one],
        default=list(names)[:1],
        key=f"evaluate-students-{task}",
    )


def _asked(replay: Replay | None = None) -> Asked:
    """What else is examined, and how."""
    upstreams = list(page.settings().upstreams)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        greedy = st.checkbox("Students also without chance", key="evaluate-greedy")
        twice = st.checkbox("Ask the teacher again", key="evaluate-twice", help="Its agreement with itself.")
        temporal = replay is None and st.checkbox("Only rows newer than training", key="evaluate-temporal")
    with st.container(horizontal=True):
        upstream = st.selectbox("Upstream", upstreams, key="evaluate-upstream", width=200)
        model = st.text_input("Another model there", key="evaluate-model", width=240).strip()
        judge = st.text_input("A judge there, head to head", key="evaluate-judge", width=240).strip()
    return Asked(
        with_base=False,
        greedy=greedy,
        twice=twice,
        temporal=temporal,
        models=(Contender(upstream, model),) if model else (),
        referee=Referee(upstream, judge) if judge else None,
        replay=replay,
    )


def _started() -> bool:
    off, icon = page.below_operator(), ":material/balance:"
    return st.button("Start evaluation", type="primary", icon=icon, key="evaluate", disabled=off)
