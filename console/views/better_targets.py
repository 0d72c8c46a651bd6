"""Better targets, as the page Datasets offers them: a dataset answered anew, and a build that takes misses first."""

from collections.abc import Mapping, Sequence

import streamlit as st

from capture import datasets
from console import bettering
from console.views import page
from students import registry

QUEUED = "The build is queued; the worker takes it from here"


def relabelling(card: datasets.Card) -> None:
    """A new version with the same rows, answered by a stronger model."""
    upstreams = [name for name, one in page.settings().upstreams.items() if one.training_allowed]
    if not upstreams:
        return
    with st.popover("Answer anew", icon=":material/auto_fix_high:", key="relabel"):
        st.markdown("A new version with the same rows, answered by another model. Each answer is paid for.")
        upstream = st.selectbox("Upstream", upstreams, key="relabel-upstream")
        model = st.text_input("Model", key="relabel-model", placeholder="a stronger teacher").strip()
        samples = st.number_input("Answers a row; the graders keep the best", 1, 16, 1, key="relabel-samples")
        system = st.text_area("Another system prompt (may be empty)", key="relabel-system").strip()
        off = page.below_operator() or not model
        if st.button("Answer it anew", type="primary", key="relabel-go", disabled=off):
            with page.acting(QUEUED):
                bettering.relabel(page.desk(), card.id, (upstream, model), samples, system or None)


def misses_first(names: Sequence[str], of_task: str | None) -> None:
    """A build that takes what a student failed on before all other rows."""
    box = st.expander("Build from a student's misses", icon=":material/flag:", key="misses", on_change="rerun")
    if not box.open:
        return
    with box:
        at = names.index(of_task) if of_task in names else 0
        task = st.selectbox("Task", names, index=at, key="misses-task", width=220)
        known = {one.id: one.name for one in page.ask(registry.list_students, task) if one.kind != "base"}
        if known:
            _misses_of(task, known)
        else:
            st.caption("This task has no student yet, so nothing was missed.")


def _misses_of(task: str, known: Mapping[str, str]) -> None:
    """`known`: names of the task's students by id."""
    with st.container(horizontal=True):
        student = st.selectbox(
            "Whose", list(known), format_func=lambda one: known[one], key=f"misses-student-{task}", width=360
        )
        rows = st.number_input("Rows to train, at most", 1, 10_000_000, 1000, key="misses-rows", width=220)
    st.caption("What it got wrong in evaluations and in shadow comes first, then others by chance.")
    if st.button("Build from misses", type="primary", key="misses-go", disabled=page.below_operator()):
        with page.acting(QUEUED):
            bettering.build_from_misses(page.desk(), task, student, rows)
