"""Traffic: find exchanges, page through them, open one."""

from typing import Any

import msgspec
import streamlit as st

from capture.traffic import ExchangeRow, TrafficFilter, count_exchanges, id_at, list_exchanges
from console.reads import exchanges as reads
from console.views import at_once, exchange, narrowing, page
from console.views.words import NONE, capped, milliseconds, moment, money, plain, when

PAGE = 50
CURSORS = "traffic-cursors"
FILTERED = "traffic-filtered"
DRAWN = "traffic-drawn"
"""The ids of the rows that the reader sees: he selects one of those, whatever the store has by then."""


def show() -> None:
    chosen = page.query("exchange")
    if chosen is not None:
        page.back("traffic", "All traffic")
        st.title("Exchange")
        exchange.opened(chosen)
        return
    st.title("Traffic")
    wanted = narrowing.fields()
    cursors = _cursors(wanted)
    live = st.session_state["traffic-live"] and not cursors
    part = st.fragment(_calm, run_every=2 if live else None)
    part(wanted, cursors)


def _calm(wanted: TrafficFilter, cursors: list[str]) -> None:
    with page.guarded():
        _listed(wanted, cursors)


def _cursors(wanted: TrafficFilter) -> list[str]:
    """The first ids of the pages before this one; none again when the filter has changed."""
    state = st.session_state
    chosen = narrowing.chosen(wanted)
    if state.get(FILTERED) != chosen:
        state[FILTERED], state[CURSORS] = chosen, []
    cursors: list[str] = state[CURSORS]
    return cursors


def _listed(wanted: TrafficFilter, cursors: list[str]) -> None:
    before = cursors[-1] if cursors else None
    reach = page.ask(reads.reach, wanted, before)
    found = page.ask(list_exchanges, _bounded(wanted, reach), before, PAGE + 1)
    rows, more = found[:PAGE], len(found) > PAGE
    older = rows[-1].id if more else None if reach is None else id_at(reach)
    if not rows and older is None:
        _nothing(wanted, cursors)
        return
    if rows:
        _shown(rows)
    elif reach is not None:
        text = (
            f"Among these {reads.LOOKED_AT:,} exchanges, back to {when(reach, page.zone())}. Older ones may be there."
        )
        page.empty("Nothing matches so far", text, "manage_search")
    _pager(older, wanted, cursors, None if before or more else len(rows))


def _bounded(wanted: TrafficFilter, reach: float | None) -> TrafficFilter:
    return wanted if reach is None else msgspec.structs.replace(wanted, since=reach)


def _shown(rows: list[ExchangeRow]) -> None:
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
    seen: list[str] = st.session_state.get(DRAWN, [])
    st.session_state[DRAWN] = [row.id for row in rows]
    for chosen in event.selection.rows:
        if chosen < len(seen):
            page.turn_to("exchange", seen[chosen])
            st.rerun(scope="app")


def _table(rows: list[ExchangeRow]) -> dict[str, list[Any]]:
    zone = page.zone()
    questions = [row.preview.partition("\n") for row in rows]
    said = page.ask(reads.verdicts_of, tuple(row.id for row in rows))
    return {
        "Time": [moment(row.started_at, zone) for row in rows],
        "Task": [row.task or narrowing.NO_TASK for row in rows],
        "Question": [question for question, _, _ in questions],
        "Answer": [answer for _, _, answer in questions],
        "Arm": [row.arm for row in rows],
        "Review": [said.get(row.id, NONE) for row in rows],
        "Status": [f"{row.status}" if row.complete else f"{row.status}, cut" for row in rows],
        "Took": [milliseconds(row.duration_ms) for row in rows],
        "Cost": [money(row.cost_usd) for row in rows],
        "Model": [row.served_model for row in rows],
        "Tokens": [(row.input_tokens or 0) + (row.output_tokens or 0) for row in rows],
    }


def _columns() -> dict[str, Any]:
    return {
        "Time": st.column_config.DatetimeColumn(format="D MMM HH:mm:ss", width=118),
        "Task": st.column_config.TextColumn(width=62),
        "Question": st.column_config.TextColumn(width=150),
        "Answer": st.column_config.TextColumn(width=96),
        "Arm": st.column_config.TextColumn(width=66),
        "Review": st.column_config.TextColumn(width=62),
        "Status": st.column_config.TextColumn(width=54, help="Of the answer; cut: it broke off."),
        "Took": st.column_config.TextColumn(width=62),
        "Cost": st.column_config.TextColumn(width=66),
        "Model": st.column_config.TextColumn(width=76),
        "Tokens": st.column_config.NumberColumn(width=58),
    }


def _pager(older: str | None, wanted: TrafficFilter, cursors: list[str], seen: int | None) -> None:
    """`older`: the id that the next page lies before; None: there is none. `seen`: how many match, if known."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Newer", icon=":material/chevron_left:", disabled=not cursors, key="newer"):
            cursors.pop()
            st.rerun(scope="app")
        if st.button("Older", icon=":material/chevron_right:", disabled=older is None, key="older"):
            cursors.append(str(older))
            st.rerun(scope="app")
        reach = page.ask(reads.reach, wanted, None)
        total = page.ask(count_exchanges, _bounded(wanted, reach)) if seen is None else seen
        among = "" if reach is None else f" among the newest {reads.LOOKED_AT:,}"
        st.caption(f"{capped(total)} match{among} · select a row to open it")
        at_once.offer(wanted, total, whole=reach is None)


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
