"""Makes or changes a task: settings as JSON, with what the rule takes and the graders say told before it is saved."""

import json
from typing import Any

import streamlit as st

from capture.settings import TaskSettings
from console import verbs
from console.reads import tasks as reads
from console.reads import trials
from console.views import page
from console.views.words import NONE, plain, score

NEW = {
    "kind": "extraction",
    "match": {"model": "gpt-4.1", "metadata": {"app": "my-app"}},
    "teacher": {"upstream": "openai", "model": "gpt-4.1"},
}


def change(task: reads.TaskRow) -> None:
    box = st.expander("Change it", icon=":material/edit:", key="change-task", on_change="rerun")
    if not box.open:
        return
    with box:
        _editor(task.name, json.dumps(task.settings.model_dump(mode="json", exclude_defaults=True), indent=2))


def make(names: list[str]) -> None:
    """A new task, from what is typed or from what the address proposes (a candidate's rule)."""
    proposed = page.query("rule")
    unfolded = not names or proposed is not None
    box = st.expander("Make a task", icon=":material/add:", expanded=unfolded, key="make-task", on_change="rerun")
    if not box.open:
        return
    with box:
        name = st.text_input("Name", page.query("name") or "", key="new-task-name", max_chars=60, placeholder="triage")
        upstream = next(iter(page.settings().upstreams), "openai")
        shown: dict[str, Any] = {**NEW, "teacher": {**NEW["teacher"], "upstream": upstream}}  # type: ignore[dict-item]
        text = json.dumps(shown, indent=2) if proposed is None else proposed
        _editor(name.strip(), text, key=f"new-{page.query('candidate') or ''}")


def _editor(name: str, text: str, key: str = "") -> None:
    """`key`: of a task that is to be made; empty: `name` is there and is changed."""
    label = "Settings (JSON, as under [tasks.NAME])"
    typed = st.text_area(label, text, height=260, key=f"task-settings-{key or name}")
    with page.guarded():
        wanted = reads.parsed(typed)
        settings = verbs.checked_task(wanted)
        _matched(name, settings)
        if st.toggle("Try the graders on real exchanges", key=f"try-{key or name}"):
            _tried(name, settings)
        off = page.below_operator() or not name
        if st.button("Save", type="primary", key=f"save-{key or name}", disabled=off):
            with page.acting(f"Task {name} is saved; gateways take it up within seconds"):
                verbs.save_task(page.desk(), name, wanted, new=bool(key))


def _matched(name: str, settings: TaskSettings) -> None:
    """What the rule takes of the newest exchanges, told anew at every change."""
    found = page.ask(trials.matched, settings)
    if not found.looked:
        st.caption("No traffic yet to try the rule on.")
        return
    others = {task or "no task": number for task, number in found.from_tasks.items() if task != name}
    told = ", ".join(f"{number:,} now in {plain(task)}" for task, number in others.items())
    st.markdown(
        f"The rule takes **{found.taken:,} of the newest {found.looked:,}** exchanges{f' ({told})' if told else ''}."
    )
    if found.headers:
        st.caption("It also asks for headers. Those are not kept, so it may take fewer.")
    if not found.taken:
        st.caption("It takes nothing of what came lately: is the model's name, or the metadata, as the app sends it?")


def _tried(name: str, settings: TaskSettings) -> None:
    found = page.ask(trials.tried, name, settings)
    if not found:
        st.caption("Nothing that this task takes has a truth, a review or a pair yet: graders have nothing to compare.")
        return
    graders = list(reads.graders_of(settings))
    st.dataframe(
        {
            "Question": [one.asked for one in found],
            "Output": [one.answered for one in found],
            "Against": [one.against for one in found],
            **{
                grader: [score(one.scores[grader]) if grader in one.scores else NONE for one in found]
                for grader in graders
            },
        },
        hide_index=True,
        alt="The graders tried on real exchanges",
    )
