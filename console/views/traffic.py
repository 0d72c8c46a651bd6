"""Traffic: find exchanges, page through them, open one."""

from typing import Any

import streamlit as st

from capture.traffic import ExchangeRow, TrafficFilter, count_exchanges, list_exchanges
from console.views import exchange, page
from console.views.words import capped, milliseconds, moment, money, plain

PAGE = 50
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
CURSORS = "traffic-cursors"
FILTERED = "traffic-filtered"


def show() -> None:
    chosen = page.query("exchange")
    st.title("Traffic" if chosen is None else "Exchange")
    if chosen is not None:
        st.page_link("views/traffic.py", label="All traffic", icon=":material/arrow_back:")
        exchange.opened(chosen)
        return
    wanted = _filter()
    cursors = _cursors(wanted)
    live = st.session_state["traffic-live"] and not cursors
    part = st.fragment(_calm, run_every=2 if live else None)
    part(wanted, cursors)


def _calm(wanted: TrafficFilter, cursors: list[str]) -> None:
    with page.guarded():
        _listed(wanted, cursors)


def _filter() -> TrafficFilter:
    tasks = [EVERY_TASK, *page.task_names(), NO_TASK]
    asked = page.query("task")
    if asked in tasks and st.session_state.get("traffic-asked") != asked:
        st.session_state["traffic-task"] = st.session_state["traffic-asked"] = asked
    with st.container(horizontal=True, vertical_alignment="bottom"):
        keep: Any = {"persist_state": "session"}
        task = st.selectbox("Task", tasks, key="traffic-task", width=150, **keep)
        arm = st.selectbox("Arm", ARMS, key="traffic-arm", width=130, **keep)
        time = st.selectbox("Time", list(TIMES), index=4, key="traffic-time", width=155, **keep)
        text = st.text_input("Text", key="traffic-text", placeholder="question or answer", width=190, **keep)
        st.toggle("Live", key="traffic-live", help="Look for new exchanges every two seconds.", **keep)
    with st.expander("More filters", key="traffic-more"), st.container(horizontal=True):
        ending = st.selectbox("Ending", list(ENDINGS), key="traffic-ending", width=220, **keep)
        label = st.text_input("Label", key="traffic-label", width=220, **keep)
        session = st.text_input("Session", key="traffic-session", width=220, **keep)
        user = st.text_input("User", key="traffic-user", width=220, **keep)
        version = st.text_input("Prompt version", key="traffic-version", width=220, **keep)
        metadata = st.text_input("Metadata", key="traffic-metadata", placeholder="app=triage", width=220, **keep)
    reach = TIMES[time]
    return TrafficFilter(
        task=None if task == EVERY_TASK else "" if task == NO_TASK else task,
        arm=None if arm == ARMS[0] else arm,
        failed=ENDINGS[ending],
        since=None if reach is None else page.desk().clock() // 60 * 60 - reach,
        text=text or None,
        label=label or None,
        session=session or None,
        user=user or None,
        fingerprint=version or None,
        metadata=dict([metadata.split("=", 1)]) if "=" in metadata else {},
    )


def _cursors(wanted: TrafficFilter) -> list[str]:
    """The first ids of the pages before this one; none again when the filter has changed."""
    state = st.session_state
    unmoving = (wanted.task, wanted.arm, wanted.failed, wanted.text, wanted.label, str(wanted.metadata), wanted.session)
    if state.get(FILTERED) != unmoving:
        state[FILTERED], state[CURSORS] = unmoving, []
    cursors: list[str] = state[CURSORS]
    return cursors


def _listed(wanted: TrafficFilter, cursors: list[str]) -> None:
    found = page.ask(list_exchanges, wanted, cursors[-1] if cursors else None, PAGE + 1)
    if not found:
        _nothing(wanted, cursors)
        return
    rows, more = found[:PAGE], len(found) > PAGE
    event: Any = st.dataframe(
        _table(rows),
        hide_index=True,
        height=min(36 * len(rows) + 40, 640),
        column_config=_columns(),
        on_select="rerun",
        selection_mode="single-row",
        key="traffic-table",
        alt="Exchanges, newest first; select a row to open it",
    )
    if event.selection.rows:
        page.turn_to("exchange", rows[event.selection.rows[0]].id)
        st.rerun(scope="app")
    _pager(rows, more, wanted, cursors)


def _table(rows: list[ExchangeRow]) -> dict[str, list[Any]]:
    zone = page.zone()
    questions = [row.preview.partition("\n") for row in rows]
    return {
        "Time": [moment(row.started_at, zone) for row in rows],
        "Arm": [row.arm for row in rows],
        "Question": [question for question, _, _ in questions],
        "Answer": [answer for _, _, answer in questions],
        "Status": [f"{row.status}" if row.complete else f"{row.status}, broken off" for row in rows],
        "Took": [milliseconds(row.duration_ms) for row in rows],
        "Cost": [money(row.cost_usd) for row in rows],
        "Task": [row.task or NO_TASK for row in rows],
        "Model": [row.served_model for row in rows],
        "Tokens": [(row.input_tokens or 0) + (row.output_tokens or 0) for row in rows],
    }


def _columns() -> dict[str, Any]:
    return {
        "Time": st.column_config.DatetimeColumn(format="D MMM HH:mm:ss", width=122),
        "Arm": st.column_config.TextColumn(width=68),
        "Question": st.column_config.TextColumn(width=240),
        "Answer": st.column_config.TextColumn(width=170),
        "Status": st.column_config.TextColumn(width=58),
        "Took": st.column_config.TextColumn(width=62),
        "Cost": st.column_config.TextColumn(width=74),
    }


def _pager(rows: list[ExchangeRow], more: bool, wanted: TrafficFilter, cursors: list[str]) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Newer", icon=":material/chevron_left:", disabled=not cursors, key="newer"):
            cursors.pop()
            st.rerun(scope="app")
        if st.button("Older", icon=":material/chevron_right:", disabled=not more, key="older"):
            cursors.append(rows[-1].id)
            st.rerun(scope="app")
        total = page.ask(count_exchanges, wanted)
        st.caption(f"{capped(total)} match · select a row to open it")


def _nothing(wanted: TrafficFilter, cursors: list[str]) -> None:
    if cursors:
        st.caption("Nothing older.")
        if st.button("Newer", icon=":material/chevron_left:", key="newer"):
            cursors.pop()
            st.rerun(scope="app")
        return
    if wanted == TrafficFilter():
        gateway = page.settings().gateway
        address = plain(f"http://{gateway.host}:{gateway.port}/v1")
        text = f"Send a request through the gateway at {address}; it is here seconds later."
        page.empty("No traffic yet", text, "forum")
    else:
        page.empty("Nothing matches", "No exchange passes all of these filters; loosen one of them.", "filter_alt_off")


if __name__ == "__main__":
    show()
