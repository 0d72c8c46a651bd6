"""Students: who there is and where they came from, the fine-tunes that make them, the evaluations that judge them."""

from typing import Any

import streamlit as st

from console import verbs
from console.views import evaluations, fine_tunes, page, registering_student, starting_evaluation
from console.views.words import NONE, plain, short, when
from students import registry

KINDS = {"local": "trained here", "base": "untuned base", "registered": "at an upstream"}
SYSTEM_PROMPTS = {"keep": "as the app sends it", "drop": "left out"}
SERVER_COLOURS = {"ready": "green", "starting": "blue", "dead": "red", "stopped": "gray"}


def show() -> None:
    for name, opened in (("student", _opened), ("fine_tune", fine_tunes.opened), ("evaluation", evaluations.opened)):
        chosen = page.query(name)
        if chosen is not None:
            page.back("students", "All students")
            opened(chosen)
            return
    st.title("Students")
    task = page.of_task()
    fine_tunes.starting(task)
    starting_evaluation.form(task)
    registering_student.form(task)
    _listed(task)
    fine_tunes.listed(task)
    evaluations.listed(task)


@page.live(5)
def _listed(task: str | None) -> None:
    st.header("Trained and registered", anchor=False)
    found = page.ask(registry.list_students, task)
    if not found:
        page.empty(
            "No student yet",
            "A student comes out of a fine-tune. Build a dataset, then start one above.",
            "school",
        )
        st.page_link("views/datasets.py", label="To the datasets", icon=":material/dataset:")
        return
    for student in found:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            _badges(student)
            st.markdown(f"**{plain(student.name)}**")
            st.caption(f"{plain(student.task)} · {when(student.created_at, page.zone())}")
            st.space("stretch")
            query = {"student": student.id}
            st.page_link("views/students.py", label="Open", icon=":material/open_in_full:", query_params=query)


def _badges(student: registry.Student) -> None:
    st.badge(KINDS.get(student.kind, student.kind), color="gray" if student.kind == "base" else "violet")
    server = page.ask(registry.server_of, student.id)
    if server is not None:
        colour: Any = SERVER_COLOURS.get(server.state, "gray")
        st.badge(f"server {server.state}", color=colour)


def _opened(student_id: str) -> None:
    student = page.ask(registry.load_student, student_id)
    st.title(f"Student of {plain(student.task)}")
    st.markdown(f"**{plain(student.name)}**")
    _server(student.id)
    _erased(student)
    _serving(student)
    _lineage(student)
    evaluations.of_student(student)


@page.live(3)
def _server(student_id: str) -> None:
    server = page.ask(registry.server_of, student_id)
    if server is None:
        st.caption("It is not being served.")
        return
    colour: Any = SERVER_COLOURS.get(server.state, "gray")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(f"server {server.state}", color=colour)
        if server.capacity_per_s is not None:
            st.markdown(f"measured: {server.capacity_per_s:.3g} answers a second")
        if server.seen_at:
            st.caption(f"last seen {when(server.seen_at, page.zone())}")
    if server.detail:
        st.text(server.detail)


def _erased(student: registry.Student) -> None:
    """Says so where it learnt from what was erased since."""
    if student.erased:
        said = f"{student.erased:,} of the rows that it learnt were erased since. Build a dataset and train anew."
        st.warning(said, icon=":material/ink_eraser:")


def _serving(student: registry.Student) -> None:
    server = page.ask(registry.server_of, student.id)
    up = server is not None and server.state in ("starting", "ready")
    with st.container(horizontal=True, vertical_alignment="center"):
        if student.kind != "registered":
            if st.button("Serve", icon=":material/play_arrow:", disabled=up or page.below_operator(), key="serve"):
                with page.acting("The student server was asked to serve it"):
                    verbs.serve(page.desk(), student.id, wanted=True)
            if st.button(
                "Stop serving", icon=":material/stop:", disabled=server is None or page.below_operator(), key="unserve"
            ):
                with page.acting("It is no longer wanted"):
                    verbs.serve(page.desk(), student.id, wanted=False)
        if student.kind != "base":
            query = {"student": student.id, "task": student.task}
            label, icon = "Start a rollout", ":material/stairs:"
            st.page_link("views/rollouts.py", label=label, icon=icon, query_params=query)


def _lineage(student: registry.Student) -> None:
    st.markdown("## Lineage")
    facts = {
        "Task": student.task,
        "Kind": KINDS.get(student.kind, student.kind),
        "Base": student.base,
        "Made": when(student.created_at, page.zone()),
        "Weights (sha256)": short(student.weights_hash, 16) if student.weights_hash else NONE,
        "Served": f"by upstream {student.upstream}, as {student.upstream_model}" if student.upstream else "here",
        "Prompt versions it learnt": ", ".join(short(one) for one in sorted(student.fingerprints)) or NONE,
        "Tools": "yes" if student.tools else "no",
        "Rows it learnt, erased since": f"{student.erased:,}" if student.erased else "none",
        "System prompt": SYSTEM_PROMPTS[student.view.system_prompt],
        "Longest answer": f"{student.view.max_tokens:,} tokens",
        "Context": f"{student.view.context_tokens:,} tokens",
    }
    st.dataframe(
        {"Fact": list(facts), "Value": list(facts.values())},
        hide_index=True,
        alt="Lineage of this student",
        height="content",
        column_config={
            "Fact": st.column_config.TextColumn(width=190),
            "Value": st.column_config.TextColumn(width=420),
        },
    )
    with st.container(horizontal=True):
        if student.fine_tune_id:
            query = {"fine_tune": student.fine_tune_id}
            st.page_link(
                "views/students.py", label="Its fine-tune", icon=":material/model_training:", query_params=query
            )
        if student.dataset_id:
            query = {"dataset": student.dataset_id}
            st.page_link("views/datasets.py", label="Its dataset", icon=":material/dataset:", query_params=query)


if __name__ == "__main__":
    show()
