"""Candidates, as the page Tasks shows them: unmatched traffic that could become a task, and what it would save."""

import json

import streamlit as st

from capture.discovery import Candidate, list_candidates
from capture.tasks import load_tasks
from console.views import page
from console.views.words import count, money, plain, when

SHOWN = 6
TEMPLATE_CHARACTERS = 600


@page.live(15)
def shown() -> None:
    found = page.ask(list_candidates, page.ask(load_tasks))
    if not found:
        return
    st.header("Candidates", anchor=False)
    st.caption("Traffic that belongs to no task, grouped by its prompt; that which costs most first.")
    for candidate in found[:SHOWN]:
        _one(candidate)
    if len(found) > SHOWN:
        st.caption(f"… and {len(found) - SHOWN:,} more.")


def _one(one: Candidate) -> None:
    with st.container(border=True, key=f"candidate-{one.id}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{count(one.exchanges)} exchanges**, {one.per_day:,.3g} a day, by {plain(one.models[0])}")
            saving = f"{money(one.cost_usd_month)} a month; a student would save {money(one.saving_usd_month)}"
            st.caption(saving, width="content")
            st.caption(f"last seen {when(one.last_seen, page.zone())}", width="content")
        st.code(one.template[:TEMPLATE_CHARACTERS] or "(no system prompt)", language=None, wrap_lines=True)
        with st.container(horizontal=True):
            label, icon = "Make it a task", ":material/add:"
            st.page_link(
                "views/tasks.py", label=label, icon=icon, query_params={"rule": rule(one), "candidate": one.id}
            )
            for number, example in enumerate(one.examples[:3], start=1):
                query = {"exchange": example}
                st.page_link("views/traffic.py", label=f"Example {number}", icon=":material/forum:", query_params=query)
        if one.match is None:
            st.caption("No rule tells it from other traffic: let the app send the header x-stillhouse-task.")


def rule(one: Candidate) -> str:
    """The settings that the form proposes, as JSON."""
    match = one.match.model_dump(exclude_defaults=True) if one.match else {}
    teacher = {"upstream": one.upstream, "model": one.models[0]}
    kind = "tools" if one.tools else "extraction" if one.schema else "text"
    return json.dumps({"kind": kind, "match": match, "teacher": teacher}, indent=2, ensure_ascii=False)
