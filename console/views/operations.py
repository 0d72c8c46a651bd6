"""Operations: counters that reconcile, processes, the spool, gateway keys, the audit trail, settings in effect."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import streamlit as st

from capture.db import Store
from capture.reconcile import Balance, reconcile
from console import charts
from console.reads import operations as reads
from console.views import gateway_keys, page, upstreams
from console.views.words import NONE, moment, plain, size, span

AUDIT_PAGE = 50


def show() -> None:
    st.title("Operations")
    processes()
    upstreams.shown()
    counters()
    gateway_keys.shown()
    _audit()
    _settings()


@page.live(5)
def processes() -> None:
    st.header("Processes", anchor=False)
    settings = page.settings()
    found = reads.processes(page.desk().store, settings, page.desk().clock())
    depth = reads.spool_depth(settings.spool_folder)
    with st.container(horizontal=True):
        for process in found:
            with st.container(border=True, width=212, height="stretch", gap=None):
                colour: Any = "green" if process.alive else "red"
                st.badge("alive" if process.alive else "silent", color=colour)
                st.markdown(f"**{process.name}**")
                seen = f"seen {span(process.seen_ago_s)} ago · " if process.seen_ago_s else ""
                st.caption(plain(seen + process.detail))
        with st.container(border=True, width=212, height="stretch", gap=None):
            share = depth.bytes / settings.capture.spool_bytes
            st.badge(f"{share * 100:.2g} % of its bound", color="green" if share < 0.5 else "red")
            st.markdown("**Spool**")
            segments = "1 segment" if depth.segments == 1 else f"{depth.segments} segments"
            st.caption(f"{size(depth.bytes)} in {segments}")


@page.live(10)
def counters() -> None:
    st.header("Counters", anchor=False)
    proof = st.toggle("Count every record in the spool", key="count-spool", help="Takes seconds for gigabytes.")
    with st.spinner("Counting …", show_time=True) if proof else nullcontext():
        found = page.ask(_counted if proof else _quick, page.settings().spool_folder)
    if not found:
        page.empty("Nothing counted yet", "Counters start with the first request through the gateway.", "pin")
        return
    _balances(found, proof)


def _quick(store: Store, spool_folder: Path) -> dict[str, Balance]:
    return reconcile(store, spool_folder, counted=False)


def _counted(store: Store, spool_folder: Path) -> dict[str, Balance]:
    return reconcile(store, spool_folder)


def _balances(found: dict[str, Balance], proof: bool) -> None:
    balances = list(found.values())
    st.dataframe(
        {
            "Task": [task or "(no task)" for task in found],
            "Seen": [balance.seen for balance in balances],
            "Stored": [balance.stored for balance in balances],
            "In the spool": [balance.pending for balance in balances],
            "Sampled out": [balance.sampled_out for balance in balances],
            "Opted out": [balance.opted_out for balance in balances],
            "Dropped": [sum(balance.dropped.values()) for balance in balances],
            "Erased": [balance.erased for balance in balances],
            "Expired, of stored": [balance.expired for balance in balances],
            "Difference": [balance.difference if proof else "not counted" for balance in balances],
        },
        hide_index=True,
        alt="Counters by task",
    )
    sum_of = "Seen = stored + in the spool + sampled out + opted out + dropped + erased. "
    quick = "What waits in the spool is told from the counters here; count its records to prove the sum."
    st.caption(sum_of + ("What is under way may show as a difference for a moment." if proof else quick))
    causes: dict[str, int] = {}
    for balance in balances:
        for cause, number in balance.dropped.items():
            said = cause.replace("_", " ")
            causes[said] = causes.get(said, 0) + number
    if len(causes) > 1:
        st.altair_chart(charts.bars(causes, "Dropped, by cause", "Exchanges"), key="drops", alt="Dropped by cause")
    elif causes:
        st.caption(f"The cause of every drop: {plain(next(iter(causes)))}.")


def _audit() -> None:
    st.header("Audit trail", anchor=False)
    before = page.query("audit_before")
    found = page.ask(reads.list_audit, before, AUDIT_PAGE)
    if not found:
        st.caption("Nothing was done yet." if before is None else "That was all.")
    else:
        zone = page.zone()
        st.dataframe(
            {
                "At": [moment(row.at, zone) for row in found],
                "Who": [row.who for row in found],
                "Action": [row.action for row in found],
                "Subject": [row.subject for row in found],
                "Detail": [json.dumps(row.detail, ensure_ascii=False) if row.detail else NONE for row in found],
            },
            hide_index=True,
            column_config={
                "At": st.column_config.DatetimeColumn(format="D MMM YYYY, HH:mm:ss", width=160),
                "Who": st.column_config.TextColumn(width=90),
                "Action": st.column_config.TextColumn(width=130),
                "Subject": st.column_config.TextColumn(width=180),
                "Detail": st.column_config.TextColumn(width=300),
            },
            alt="Audit trail",
        )
    with st.container(horizontal=True):
        if before is not None:
            st.page_link("views/operations.py", label="Newest", icon=":material/first_page:")
        if len(found) == AUDIT_PAGE:
            query = {"audit_before": found[-1].id}
            st.page_link("views/operations.py", label="Older", icon=":material/chevron_right:", query_params=query)


def _settings() -> None:
    st.header("Settings in effect", anchor=False)
    st.caption("Secrets are named here by their variable or file, and never shown.")
    with st.expander("All settings", key="all-settings"):
        st.json(reads.hidden(page.settings()), expanded=1)


if __name__ == "__main__":
    show()
