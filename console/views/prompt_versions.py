"""A task's prompt versions, as the page Tasks shows them: which were seen when, and how two differ."""

import difflib

import streamlit as st

from console.reads import tasks as reads
from console.views import page
from console.views.words import count, short, when


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
