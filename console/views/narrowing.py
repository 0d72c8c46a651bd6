"""The filters over traffic: fields in, a TrafficFilter out, kept in the address so that a filter can be sent on."""

from datetime import date
from typing import Any

import msgspec
import streamlit as st

from capture.traffic import TrafficFilter
from console.reads import tasks as task_reads
from console.views import page

HOUR_S = 3600.0
ALL_TIME, BETWEEN = "All time", "Between two days"
TIMES = {
    ALL_TIME: None,
    "The last hour": HOUR_S,
    "The last day": 24 * HOUR_S,
    "The last 7 days": 7 * 24 * HOUR_S,
    "The last 30 days": 30 * 24 * HOUR_S,
    BETWEEN: None,
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
WORDS = {
    "text": ("traffic-text", "words of question or answer"),
    "model": ("traffic-model", "asked for, or answering"),
    "label": ("traffic-label", ""),
    "session": ("traffic-session", ""),
    "user": ("traffic-user", ""),
    "version": ("traffic-version", ""),
    "metadata": ("traffic-metadata", "app=triage, tier=gold"),
}
"""Parts of the address that are words → their field, and what it says while it is empty."""

CHOICES = {
    "task": "traffic-task",
    "arm": "traffic-arm",
    "time": "traffic-time",
    "review": "traffic-review",
    "feedback": "traffic-feedback",
    "ending": "traffic-ending",
    "grader": "traffic-grader",
}
"""Parts of the address that are one of some options → their field."""

SCORE = "score"
SCORE_KEY = "traffic-score"
ALL_SCORES = (0.0, 1.0)
DAYS = {"from": "traffic-from", "to": "traffic-to"}
"""Parts of the address that are days, as 2026-05-31 → their field; `score` is as 0.2-0.8."""

WRITTEN = "traffic-written"
KEEP: Any = {"persist_state": "session"}

Chosen = tuple[str, TrafficFilter]


def fields() -> TrafficFilter:
    """The fields, as the address or the reader set them; the address says afterwards what they are."""
    options = _options()
    _take_address(options)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        task = _choice("Task", "task", options, width=150)
        arm = _choice("Arm", "arm", options, width=130)
        time = _choice("Time", "time", options, width=155)
        between: dict[str, Any] = _between() if time == BETWEEN else {}
        text = _word("Text", "text", width=220)
        st.toggle("Live", key="traffic-live", help="Look for new exchanges every two seconds.", **KEEP)
    with st.expander("More filters", key="traffic-more"), st.container(horizontal=True):
        more = {**between, **_more(options)}
    _give_address(options)
    reach = TIMES[time]
    if reach is not None:
        more["since"] = page.desk().clock() // 60 * 60 - reach
    return TrafficFilter(
        task=None if task == EVERY_TASK else "" if task == NO_TASK else task,
        arm=None if arm == ARMS[0] else arm,
        text=text,
        **more,
    )


def chosen(wanted: TrafficFilter) -> Chosen:
    """What of a filter a person has set: the same while the start of "the last day" moves by itself."""
    time = st.session_state["traffic-time"]
    return time, wanted if time == BETWEEN else msgspec.structs.replace(wanted, since=None)


def _options() -> dict[str, list[str]]:
    """What each choice offers; the first of each narrows nothing."""
    return {
        "task": [EVERY_TASK, *page.task_names(), NO_TASK],
        "arm": list(ARMS),
        "time": list(TIMES),
        "review": list(REVIEWS),
        "feedback": list(FEEDBACK),
        "ending": list(ENDINGS),
        "grader": [ANY_GRADER, *page.ask(task_reads.grader_names, None)],
    }


def _choice(label: str, name: str, options: dict[str, list[str]], width: int = 200) -> str:
    chosen: str = st.selectbox(label, options[name], key=CHOICES[name], width=width, **KEEP)
    return chosen


def _word(label: str, name: str, width: int = 200) -> str | None:
    key, hint = WORDS[name]
    return st.text_input(label, key=key, placeholder=hint, width=width, **KEEP).strip() or None


def _between() -> dict[str, Any]:
    """Whole days in the reader's zone, the last one included."""
    for key in DAYS.values():
        st.session_state.setdefault(key, None)
    first = st.date_input("From", key=DAYS["from"], width=130, **KEEP)
    last = st.date_input("To", key=DAYS["to"], width=130, **KEEP)
    return {"since": page.midnight(first), "until": page.day_end(last)}


def _more(options: dict[str, list[str]]) -> dict[str, Any]:
    """The fields that are not always seen, as parts of a TrafficFilter."""
    review, said = _choice("Review", "review", options), _choice("Feedback", "feedback", options)
    ending, grader = _choice("Ending", "ending", options), _choice("Score by", "grader", options)
    low, high = 0.0, 1.0
    if grader != ANY_GRADER:
        st.session_state.setdefault(SCORE_KEY, ALL_SCORES)
        low, high = st.slider("Score from, to", 0.0, 1.0, step=0.05, key=SCORE_KEY, width=200, **KEEP)
    words = {
        field: _word(label, name)
        for field, name, label in (
            ("model", "model", "Model"),
            ("label", "label", "Label"),
            ("session", "session", "Session"),
            ("user", "user", "User"),
            ("fingerprint", "version", "Prompt version"),
        )
    }
    return {
        "review": REVIEWS[review],
        "feedback": FEEDBACK[said],
        "failed": ENDINGS[ending],
        "grader": None if grader == ANY_GRADER else grader,
        "score_from": low if grader != ANY_GRADER and low > 0 else None,
        "score_to": high if grader != ANY_GRADER and high < 1 else None,
        "metadata": named(_word("Metadata", "metadata") or ""),
        **words,
    }


def named(text: str) -> dict[str, str]:
    """ "app=triage, tier=gold" as a dictionary; parts without a "=" are passed over."""
    parts = (part.partition("=") for part in text.split(",") if "=" in part)
    return {name.strip(): value.strip() for name, _, value in parts if name.strip()}


def _take_address(options: dict[str, list[str]]) -> None:
    """An address that says something new sets every field: it is somebody's link, and shows what he saw."""
    known = {*WORDS, *CHOICES, *DAYS, SCORE}
    asked = {name: value for name, value in st.query_params.to_dict().items() if name in known}
    state = st.session_state
    if not asked or asked == state.get(WRITTEN):
        return
    for name, key in CHOICES.items():
        value = asked.get(name)
        state[key] = value if value in options[name] else options[name][0]
    for name, (key, _) in WORDS.items():
        state[key] = asked.get(name, "")
    for name, key in DAYS.items():
        state[key] = _day(asked.get(name, ""))
    state[SCORE_KEY] = _scores(asked.get(SCORE, ""))


def _day(text: str) -> date | None:
    """None for what is no day."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _scores(text: str) -> tuple[float, float]:
    """Every score for what is no range of them."""
    try:
        low, high = (float(part) for part in text.split("-"))
    except ValueError:
        return ALL_SCORES
    return (low, high) if 0 <= low <= high <= 1 else ALL_SCORES


def _give_address(options: dict[str, list[str]]) -> None:
    state = st.session_state
    parts = {name: state[key] for name, key in CHOICES.items() if state[key] != options[name][0]}
    parts |= {name: state[key] for name, (key, _) in WORDS.items() if state[key]}
    if parts.get("time") == BETWEEN:
        parts |= {name: state[key].isoformat() for name, key in DAYS.items() if state[key]}
    if "grader" in parts and state[SCORE_KEY] != ALL_SCORES:
        parts[SCORE] = "{:g}-{:g}".format(*state[SCORE_KEY])
    if parts != st.query_params.to_dict():
        page.readdress(parts)
    state[WRITTEN] = parts
