"""A task's prompt versions, as the page Tasks shows them: which were seen when, and how two differ."""

import streamlit as st

from console.reads import tasks as reads
from console.views import page
from console.views.words import count, moment, short

TIME = "D MMM YYYY, HH:mm"


def shown(task: str) -> None:
    st.markdown("## Prompt versions")
    found = page.ask(reads.prompt_versions, task)
    if not found:
        st.caption("No request has been seen yet.")
        return
    zone = page.zone()
    st.dataframe(
        {
            "Version": [short(version.fingerprint) for version in found],
            "Exchanges": [version.exchanges for version in found],
            "Last seen": [moment(version.last_seen, zone) for version in found],
            "First seen": [moment(version.first_seen, zone) for version in found],
        },
        hide_index=True,
        column_config={name: st.column_config.DatetimeColumn(format=TIME) for name in ("Last seen", "First seen")},
        alt="Prompt versions of this task",
    )
    labels = {v.fingerprint: f"{short(v.fingerprint)} ({count(v.exchanges)} exchanges)" for v in found}
    left, right = st.columns(2)
    one = left.selectbox("Read", list(labels), format_func=lambda version: labels[version], key="version-read")
    others = [fingerprint for fingerprint in labels if fingerprint != one]
    other = right.selectbox(
        "Compare with",
        others,
        index=None,
        format_func=lambda version: labels[version],
        key="version-other",
        placeholder="another version" if others else "there is no other version",
        disabled=not others,
    )
    known = {version.fingerprint: version for version in found}
    if other is None:
        st.code(known[one].template or "(no system prompt)", language=None, wrap_lines=True)
    else:
        text = reads.prompt_diff(known[other], known[one]) or "(the same text; tools or schema differ)"
        st.code(text, language="diff", wrap_lines=True)
