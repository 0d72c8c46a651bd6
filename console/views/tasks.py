"""Tasks: their settings, graders and prompt versions; make one, change one."""

import json
from typing import Any

import streamlit as st

from capture.settings import GraderSettings, TaskSettings
from console.reads import tasks as reads
from console.reads import trials
from console.views import candidates, editing_task, page, prompt_versions, turns
from console.views.words import NONE, interval, percent, when


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
        at = names.index(wanted) if wanted in names else names.index(page.ask(reads.busiest) or names[0])
        name = st.selectbox("Task", names, index=at, key="task-name")
        _task(next(task for task in found if task.name == name))
    editing_task.make(names)
    candidates.shown()


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
        editing_task.change(task)
    with page.guarded():
        _agreement(task.name, settings)
    prompt_versions.shown(task.name)
    turns.shown(task.name, settings.loop)


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
    st.markdown("## Graders")
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


def _agreement(name: str, task: TaskSettings) -> None:
    """Whether graders say what people said; a grader that does not is no judge."""
    found = page.ask(trials.agreement, name, task)
    if not found:
        return
    st.markdown("## Graders against people")
    known = [one.licence for one in found]
    st.dataframe(
        {
            "Grader": [one.grader for one in known],
            "Reviewed and scored": [one.good + one.bad for one in known],
            "Agree": [percent(one.agreement) for one in known],
            f"{task.judges.confidence * 100:g} % interval": [interval(one.low, one.high) for one in known],
            "Beyond chance (κ)": [NONE if one.kappa is None else f"{one.kappa:.2f}" for one in found],
            "May gate": ["yes" if not one.judge else one.licence.obstacle or "yes" for one in found],
        },
        hide_index=True,
        alt="Agreement of graders with people's reviews",
    )
    st.caption("A grader says good from a score of ½ on, a person by accepting. A judge gates only with a licence.")


def _own(grader: GraderSettings) -> str:
    """What was set on it beside its kind."""
    chosen = grader.model_dump(mode="json", exclude_defaults=True, exclude={"type", "against"})
    return json.dumps(chosen, ensure_ascii=False) if chosen else "its defaults"


if __name__ == "__main__":
    show()
