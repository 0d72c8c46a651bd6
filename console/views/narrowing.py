"""The filters over traffic: fields in, a TrafficFilter out, kept in the address so that a filter can be sent on."""

from typing import Any

import msgspec
import streamlit as st

from capture.traffic import TrafficFilter
from console.reads import tasks as task_reads
from console.views import page

HOUR_S = 3600.0
TIMES = {
    "The last hour": HOUR_S,
    "The last day": 24 * HOUR_S,
    "The last 7 days": 7 * 24 * HOUR_S,
    "The last 30 days": 30 * 24 * HOUR_S,
    "All time": None,
}
NO_TASK, EVERY_TASK = "(no task)", "Every task"
ARMS = ("Every arm", "teacher", "student", "fallback")
ENDINGS = {"Every ending": None, "Answered": False, "Failed or broken off": True}
REVIEWS = {
    "Reviewed or not": None,
    "Not reviewed": "none",
    "Reviewed": "any",
    "Accepted": "accept",
    "Rejected": "reject",
    "Corrected": "correct",
}
FEEDBACK = {
    "With feedback or not": None,
    "No feedback": "none",
    "Some feedback": "any",
    "A truth": "truth",
    "A score": "score",
    "A comment": "comment",
    "A correction": "correction",
}
ANY_GRADER = "Any score"
ASKED = {"task": "traffic-task", "version": "traffic-version", "text": "traffic-text", "model": "traffic-model"}
"""Parts of the address that set a field when they change."""

Chosen = tuple[str, TrafficFilter]


def fields() -> TrafficFilter:
    tasks = [EVERY_TASK, *page.task_names(), NO_TASK]
    _take_address(tasks)
    keep: Any = {"persist_state": "session"}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        task = st.selectbox("Task", tasks, key="traffic-task", width=150, **keep)
        arm = st.selectbox("Arm", ARMS, key="traffic-arm", width=130, **keep)
        time = st.selectbox("Time", list(TIMES), index=4, key="traffic-time", width=155, **keep)
        text = st.text_input("Text", key="traffic-text", placeholder="words of question or answer", width=220, **keep)
        st.toggle("Live", key="traffic-live", help="Look for new exchanges every two seconds.", **keep)
    with st.expander("More filters", key="traffic-more"), st.container(horizontal=True):
        more = _more(None if task in (EVERY_TASK, NO_TASK) else task)
    reach = TIMES[time]
    return TrafficFilter(
        task=None if task == EVERY_TASK else "" if task == NO_TASK else task,
        arm=None if arm == ARMS[0] else arm,
        since=None if reach is None else page.desk().clock() // 60 * 60 - reach,
        text=text.strip() or None,
        **more,
    )


def chosen(wanted: TrafficFilter) -> Chosen:
    """What of a filter a person has set: the same while the start of "the last day" moves by itself."""
    return st.session_state["traffic-time"], msgspec.structs.replace(wanted, since=None)


def _more(task: str | None) -> dict[str, Any]:
    """The fields that are not always seen, as parts of a TrafficFilter."""
    keep: Any = {"persist_state": "session", "width": 200}
    review = st.selectbox("Review", list(REVIEWS), key="traffic-review", **keep)
    said = st.selectbox("Feedback", list(FEEDBACK), key="traffic-feedback", **keep)
    ending = st.selectbox("Ending", list(ENDINGS), key="traffic-ending", **keep)
    graders = [ANY_GRADER, *page.ask(task_reads.grader_names, task)]
    grader = st.selectbox("Score by", graders, key="traffic-grader", **keep)
    between = (0.0, 1.0)
    if grader != ANY_GRADER:
        between = st.slider("Score from, to", 0.0, 1.0, (0.0, 1.0), 0.05, key="traffic-score", **keep)
    text = {
        name: st.text_input(label, key=f"traffic-{key}", placeholder=hint, **keep).strip() or None
        for name, key, label, hint in (
            ("model", "model", "Model", "asked for, or answering"),
            ("label", "label", "Label", ""),
            ("session", "session", "Session", ""),
            ("user", "user", "User", ""),
            ("fingerprint", "version", "Prompt version", ""),
        )
    }
    metadata = st.text_input("Metadata", key="traffic-metadata", placeholder="app=triage, tier=gold", **keep)
    return {
        "review": REVIEWS[review],
        "feedback": FEEDBACK[said],
        "failed": ENDINGS[ending],
        "grader": None if grader == ANY_GRADER else grader,
        "score_from": between[0] if grader != ANY_GRADER and between[0] > 0 else None,
        "score_to": between[1] if grader != ANY_GRADER and between[1] < 1 else None,
        "metadata": named(metadata),
        **text,
    }


def named(text: str) -> dict[str, str]:
    """ "app=triage, tier=gold" as a dictionary; parts without a "=" are passed over."""
    parts = (part.partition("=") for part in text.split(",") if "=" in part)
    return {name.strip(): value.strip() for name, _, value in parts if name.strip()}


def _take_address(tasks: list[str]) -> None:
    for name, field in ASKED.items():
        asked = page.query(name)
        if asked is None or st.session_state.get(f"{field}-asked") == asked or (name == "task" and asked not in tasks):
            continue
        st.session_state[field] = st.session_state[f"{field}-asked"] = asked
