"""The form that starts a rollout: a student, how much worse it may be, and the ladder."""

import streamlit as st

from capture.errors import StillhouseError
from capture.settings import RolloutSettings
from console import verbs
from console.views import page
from students import registry
from students.rollout_start import Start


def form(task: str | None) -> None:
    able = [s for s in page.ask(registry.list_students, task) if s.kind != "base"]
    if not able:
        return
    wanted = page.query("student")
    with st.expander("Start a rollout", icon=":material/add:", expanded=wanted is not None, key="start-rollout"):
        ids = [student.id for student in able]
        names = {student.id: student.name for student in able}
        at = ids.index(wanted) if wanted in ids else 0
        student_id = st.selectbox("Student", ids, index=at, format_func=lambda one: names[one], key="start-student")
        student = next(one for one in able if one.id == student_id)
        policy = page.desk().task(student.task).rollout
        _fields(student, policy)


def _fields(student: registry.Student, policy: RolloutSettings) -> None:
    """The task's own policy, to be changed. No field has bounds: what cannot be is refused in a line of the verb's."""
    with st.form("start", border=False):
        left, middle, right = st.columns(3)
        margin = left.number_input(
            "Margin (points)", value=policy.margin * 100, step=0.5, help="How much worse it may be."
        )
        alpha = middle.number_input("α", value=policy.alpha, step=0.01, format="%.3f", help="Chance of a false proof.")
        pairs = right.number_input("Pairs at each stage, at least", value=policy.minimum_pairs)
        ladder = st.text_input("Ladder (percent, after shadow)", ", ".join(f"{s * 100:g}" for s in policy.shares))
        sessions = left.number_input("Sessions at each stage, at least", value=policy.minimum_sessions)
        hours = middle.number_input("Hours at each stage, at least", value=float(policy.minimum_hours))
        why = st.text_input("Why without an evaluation (only for a student that has none)", "", max_chars=300)
        dry = st.checkbox("Dry run: decide, and move nothing")
        label, icon, off = "Start in shadow", ":material/play_arrow:", page.below_operator()
        if not st.form_submit_button(label, type="primary", icon=icon, key="yes-start", disabled=off):
            return
        with page.acting("The rollout has started in shadow"):
            changes = {
                "margin": margin / 100,
                "alpha": alpha,
                "shares": _shares(ladder),
                "minimum_pairs": pairs,
                "minimum_sessions": sessions,
                "minimum_hours": hours,
            }
            chosen = verbs.policy_of(page.desk(), student.task, changes)
            verbs.start_rollout(page.desk(), _request(student, chosen, why, dry))


def _request(student: registry.Student, policy: RolloutSettings, why: str, dry_run: bool) -> Start:
    who = page.desk().actor.name
    reason = why.strip()
    return Start(student.task, student.id, who, policy, reason=reason, force=bool(reason), dry_run=dry_run)


def _shares(text: str) -> tuple[float, ...]:
    """The ladder as typed, in percent. Raises StillhouseError for anything that is no list of numbers."""
    try:
        return tuple(float(part) / 100 for part in text.replace("%", " ").replace(";", ",").split(",") if part.strip())
    except ValueError as error:
        raise StillhouseError(f"the ladder {text!r} is not a list of percentages, such as 1, 5, 25, 50, 95") from error
