"""An exchange to the letter, on demand: its request and answer as they are stored, and its erasure."""

import msgspec
import streamlit as st

from capture.traffic import StoredExchange
from console import verbs
from console.views import page
from console.views.words import size

SHOWN_BYTES = 200_000


def shown(found: StoredExchange) -> None:
    """Nothing is encoded, or sent to the browser, before somebody unfolds it."""
    st.caption("x\\-stillhouse\\-id")
    st.code(found.row.id, language=None, width="content")
    _unfolded("Raw request, as stored (redacted)", "raw-request", found.request)
    _unfolded("Raw answer, as stored (redacted)", "raw-answer", found.answer.raw or found.answer.message)
    _erasing(found.row.id)


def _unfolded(label: str, key: str, value: object) -> None:
    box = st.expander(label, key=key, on_change="rerun")
    if not box.open:
        return
    raw = msgspec.json.encode(value)
    with box:
        st.caption(
            f"{size(len(raw))} of JSON" + ("" if len(raw) <= SHOWN_BYTES else f"; the first {size(SHOWN_BYTES)}")
        )
        st.code(raw[:SHOWN_BYTES].decode("utf-8", "replace"), language=None, wrap_lines=True)


def _erasing(exchange_id: str) -> None:
    if page.below_operator():
        return
    with st.popover("Erase", icon=":material/delete_forever:", key="erase-exchange"):
        st.markdown("It is deleted for good, with what was said of it and its rows in datasets.")
        if st.button("Yes, erase it", type="primary", key="yes-erase"):
            with page.acting("The exchange is erased"):
                verbs.erase(page.desk(), [exchange_id])
                page.readdress({})
