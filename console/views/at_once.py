"""Acts on everything that a filter finds: the count first, a confirmation, then the verb."""

from typing import Any

import streamlit as st

from capture.traffic import COUNT_CAP, TrafficFilter
from console import bulk
from console.access import Role
from console.views import page
from console.views.words import capped

WORDS = {"accept": "Accept", "reject": "Reject", "erase": "Erase"}
EFFECTS = {
    "accept": "They count as right answers: datasets may take them, whatever their scores.",
    "reject": "No dataset takes them any more.",
    "erase": "They are deleted for good, with what was said of them and their rows in datasets.",
}


def offer(wanted: TrafficFilter, total: int) -> None:
    """`total`: how many match, as counted; beyond the cap, a narrower filter is asked for."""
    if not total or page.desk().actor.role < Role.REVIEWER:
        return
    with st.popover(f"Act on all {capped(total)}", icon=":material/checklist:", key="at-once"):
        if total > COUNT_CAP:
            st.markdown(f"More than {COUNT_CAP:,} exchanges match. Narrow the filter to act on all of them at once.")
            return
        verbs = list(WORDS) if page.desk().actor.role >= Role.OPERATOR else ["accept", "reject"]
        verb: Any = st.segmented_control("What", verbs, format_func=lambda one: WORDS[one], key="at-once-verb")
        if verb:
            _confirm(verb, wanted, total)


def _confirm(verb: Any, wanted: TrafficFilter, total: int) -> None:
    st.markdown(f"**{total:,} exchanges** pass the filter. {EFFECTS[verb]}")
    sure = st.checkbox(f"Yes, all {total:,}", key=f"at-once-sure-{verb}-{total}")
    if not st.button(f"{WORDS[verb]} {total:,}", type="primary", disabled=not sure, key="at-once-go"):
        return
    with st.spinner(f"{WORDS[verb]} {total:,} exchanges …"), page.acting(f"{WORDS[verb]}: {total:,} exchanges, done"):
        if verb == "erase":
            bulk.erase_all(page.desk(), wanted, total)
        else:
            bulk.review_all(page.desk(), wanted, verb, total)
