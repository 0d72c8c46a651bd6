"""Acts on everything that a filter finds: the count first, a confirmation, then the verb."""

from dataclasses import dataclass
from typing import Any

import streamlit as st

from capture.traffic import COUNT_CAP, TrafficFilter, count_exchanges, end_of
from console import bulk
from console.views import narrowing, page
from console.views.words import capped, plain

WORDS = {"accept": "Accept", "reject": "Reject", "erase": "Erase"}
EFFECTS = {
    "accept": "They count as right answers: datasets may take them, whatever their scores. Those that somebody has "
    "corrected, that failed or broke off are skipped.",
    "reject": "No dataset takes them any more. Those that somebody has corrected are skipped.",
    "erase": "They are deleted for good, with what was said of them and their rows in datasets.",
}
SHOWN = "at-once-shown"


@dataclass(frozen=True)
class _Shown:
    """What a person is asked about while a verb is chosen: exchanges that come meanwhile are not among it."""

    chosen: narrowing.Chosen
    wanted: TrafficFilter
    at: float | None


def offer(wanted: TrafficFilter, total: int, whole: bool) -> None:
    """`total`: how many match, as counted; beyond the cap, a narrower filter is asked for. `whole`: all were looked at;
    else they are counted when a verb is chosen."""
    if not total or page.below_reviewer():
        return
    label = f"Act on all {capped(total)}" if whole else "Act on all that match"
    with st.popover(label, icon=":material/checklist:", key="at-once"):
        if total > COUNT_CAP:
            st.markdown(f"More than {COUNT_CAP:,} exchanges match. Narrow the filter to act on all of them at once.")
            return
        verbs = ["accept", "reject"] if page.below_operator() else list(WORDS)
        verb: Any = st.radio(
            "What", verbs, index=None, format_func=lambda one: WORDS[one], key="at-once-verb", horizontal=True
        )
        if verb:
            _confirm(verb, _shown(wanted))
        else:
            st.session_state.pop(SHOWN, None)


def _shown(wanted: TrafficFilter) -> _Shown:
    """The same from run to run, for the filter in force."""
    chosen = narrowing.chosen(wanted)
    shown: _Shown | None = st.session_state.get(SHOWN)
    if shown is None or shown.chosen != chosen:
        shown = st.session_state[SHOWN] = _Shown(chosen, wanted, end_of(page.desk().store, wanted))
    return shown


def _confirm(verb: Any, shown: _Shown) -> None:
    with st.spinner("Counting …"):
        total = page.ask(count_exchanges, bulk.until(shown.wanted, shown.at))
    st.markdown(f"**{total:,} exchanges** pass the filter. {EFFECTS[verb]}")
    sure = st.checkbox(f"Yes, all {total:,}", key=f"at-once-sure-{verb}-{total}")
    if not st.button(f"{WORDS[verb]} {total:,}", type="primary", disabled=not sure, key="at-once-go"):
        return
    with st.spinner(f"{WORDS[verb]} {total:,} exchanges …"), page.acting("Done"):
        del st.session_state[SHOWN]
        if verb == "erase":
            report = bulk.erase_all(page.desk(), shown.wanted, total, shown.at)
            st.toast(plain("; ".join(report.lines())), icon=":material/delete_forever:", duration="long")
        else:
            done = bulk.review_all(page.desk(), shown.wanted, verb, total, shown.at)
            st.toast(f"{WORDS[verb]}: {done.sentence}", icon=":material/checklist:", duration="long")
