"""Tasks: their settings, and the prompt versions that were seen."""

import difflib
import json
from typing import Any

import streamlit as st

from capture.settings import GraderSettings, TaskSettings
from console import verbs
from console.reads import tasks as reads
from console.views import page
from console.views.words import count, short, when

NEW = {
    "kind": "extraction",
    "match": {"model": "gpt-4.1", "metadata": {"app": "my-app"}},
    "teacher": {"upstream": "openai", "model": "gpt-4.1"},
}


def show() -> None:
    st.title("Tasks")
    found = page.ask(reads.list_tasks)
    if not found:
        page.empty(
            "No task yet",
            "A task is one narrow, repetitive workload: a match rule, a teacher, graders, a rollout policy. "
            "Name one in `stillhouse.toml`, or make one here.",
            "label",
        )
    names = [task.name for task in found]
    if names:
        wanted = page.query("task")
        at = names.index(wanted) if wanted in names else 0
        name = st.selectbox("Task", names, index=at, key="task-name")
        _task(next(task for task in found if task.name == name))
    _new(names)


def _task(task: reads.TaskRow) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        where = "stillhouse.toml: read-only here" if task.from_file else "made in the console"
        st.badge(where, color="gray" if task.from_file else "blue")
        st.caption(f"changed {when(task.updated_at, page.zone())}")
        st.page_link("views/traffic.py", label="Traffic", icon=":material/forum:", query_params={"task": task.name})
    settings = task.settings
    with st.container(horizontal=True):
        for label, value in _facts(settings).items():
            with st.container(width=146, gap=None):
                st.caption(label)
                st.text(value)
    _graders(settings)
    with st.expander("All settings", key="task-settings"):
        st.json(settings.model_dump(mode="json"), expanded=2)
    if not task.from_file:
        _edit(task)
    _versions(task.name)


def _facts(settings: TaskSettings) -> dict[str, str]:
    match = settings.match.model_dump(exclude_defaults=True)
    rollout = settings.rollout
    return {
        "Matches": "\n".join(_conditions(match)) or "only by its own name",
        "Teacher": f"{settings.teacher.model}\nat {settings.teacher.upstream}",
        "Kept": f"{settings.sampling.rate * 100:.3g} % of the traffic",
        "Holdout": f"{settings.dataset.holdout * 100:.3g} %",
        "Rollout": f"margin {rollout.margin * 100:.3g} points\nα {rollout.alpha:.3g}",
    }


def _conditions(match: dict[str, Any]) -> list[str]:
    parts = []
    for name, value in match.items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        parts += [f"{name}.{key} = {one}" if key else f"{name} = {one}" for key, one in inner]
    return parts


def _graders(settings: TaskSettings) -> None:
    st.markdown("#### Graders")
    chosen = reads.graders_of(settings)
    if not chosen:
        st.caption("None.")
        return
    st.dataframe(
        {
            "Grader": list(chosen),
            "Kind": [grader.type for grader in chosen.values()],
            "Against": [grader.against for grader in chosen.values()],
            "Settings": [_own(grader) for grader in chosen.values()],
        },
        hide_index=True,
        alt="Graders of this task",
    )


def _own(grader: GraderSettings) -> str:
    """What was set on it beside its kind."""
    chosen = grader.model_dump(mode="json", exclude_defaults=True, exclude={"type", "against"})
    return json.dumps(chosen, ensure_ascii=False) if chosen else "as usual"


def _versions(task: str) -> None:
    st.markdown("#### Prompt versions")
    found = page.ask(reads.prompt_versions, task)
    if not found:
        st.caption("No request has been seen yet.")
        return
    zone = page.zone()
    st.dataframe(
        {
            "Version": [short(version.fingerprint) for version in found],
            "Exchanges": [version.exchanges for version in found],
            "First seen": [when(version.first_seen, zone) for version in found],
            "Last seen": [when(version.last_seen, zone) for version in found],
        },
        hide_index=True,
        alt="Prompt versions of this task",
    )
    labels = {v.fingerprint: f"{short(v.fingerprint)} ({count(v.exchanges)} exchanges)" for v in found}
    one = st.selectbox("Read", list(labels), format_func=lambda version: labels[version], key="version-read")
    others = [fingerprint for fingerprint in labels if fingerprint != one]
    other = st.selectbox(
        "Compare with", others, index=None, format_func=lambda version: labels[version], key="version-other"
    )
    texts = {version.fingerprint: version.template for version in found}
    if other is None:
        st.code(texts[one] or "(no system prompt)", language=None, wrap_lines=True)
        return
    lines = difflib.unified_diff(
        texts[other].splitlines(), texts[one].splitlines(), short(other), short(one), lineterm="", n=3
    )
    st.code("\n".join(lines) or "(the same text; tools or schema differ)", language="diff", wrap_lines=True)


def _edit(task: reads.TaskRow) -> None:
    with st.expander("Change it", icon=":material/edit:"):
        _form(task.name, json.dumps(task.settings.model_dump(mode="json", exclude_defaults=True), indent=2))


def _new(names: list[str]) -> None:
    with st.expander("Make a task", icon=":material/add:", expanded=not names):
        name = st.text_input("Name", key="new-task-name", max_chars=60, placeholder="triage")
        upstream = next(iter(page.settings().upstreams), "openai")
        shown = {**NEW, "teacher": {**NEW["teacher"], "upstream": upstream}}  # type: ignore[dict-item]
        _form(name, json.dumps(shown, indent=2))


def _form(name: str, text: str) -> None:
    with st.form(f"task-{name or 'new'}", border=False):
        typed = st.text_area("Settings (JSON, as under [tasks.NAME])", text, height=260)
        if st.form_submit_button("Save", type="primary") and name.strip():
            with page.acting(f"Task {name} is saved; gateways take it up within seconds"):
                verbs.save_task(page.desk(), name.strip(), reads.parsed(typed))


if __name__ == "__main__":
    show()
