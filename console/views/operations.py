"""Operations: counters that reconcile, processes, the spool, gateway keys, the audit trail, settings in effect."""

import json
from typing import Any

import streamlit as st

from capture import keys
from capture.reconcile import Balance, reconcile
from console import charts, verbs
from console.reads import operations as reads
from console.views import page
from console.views.words import NONE, moment, plain, size, span, when

DEEP_BYTES = 64 * 1024 * 1024  # a spool beyond this is counted on demand only: all that waits in it has to be read

AUDIT_PAGE = 50


def show() -> None:
    st.title("Operations")
    processes()
    counters()
    _keys()
    _audit()
    _settings()


@page.live(5)
def processes() -> None:
    st.subheader("Processes", anchor=False)
    settings = page.settings()
    found = reads.processes(page.desk().store, settings, page.desk().clock())
    depth = reads.spool_depth(settings.spool_folder)
    with st.container(horizontal=True):
        for process in found:
            with st.container(border=True, width=190, height="stretch", gap=None):
                colour: Any = "green" if process.alive else "red"
                st.badge("alive" if process.alive else "silent", color=colour)
                st.markdown(f"**{process.name}**")
                seen = f"seen {span(process.seen_ago_s)} ago · " if process.seen_ago_s else ""
                st.caption(plain(seen + process.detail))
        with st.container(border=True, width=190, height="stretch", gap=None):
            share = depth.bytes / settings.capture.spool_bytes
            st.badge(f"{share * 100:.2g} % of its bound", color="green" if share < 0.5 else "red")
            st.markdown("**Spool**")
            segments = "1 segment" if depth.segments == 1 else f"{depth.segments} segments"
            st.caption(f"{size(depth.bytes)} in {segments}")


@page.live(10)
def counters() -> None:
    st.subheader("Counters", anchor=False)
    settings = page.settings()
    if reads.spool_depth(settings.spool_folder).bytes > DEEP_BYTES and not st.button("Count what waits in the spool"):
        st.caption("The spool is deep, so counting all that waits in it takes a while.")
        return
    found = page.ask(reconcile, settings.spool_folder)
    if not found:
        page.empty("Nothing counted yet", "Counters start with the first request through the gateway.", "pin")
        return
    _balances(found)


def _balances(found: dict[str, Balance]) -> None:
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
            "Difference": [balance.difference for balance in balances],
        },
        hide_index=True,
        alt="Counters by task",
    )
    st.caption(
        "Seen = stored + in the spool + sampled out + opted out + dropped + erased. "
        "What is under way may show as a difference for a moment."
    )
    causes: dict[str, int] = {}
    for balance in balances:
        for cause, number in balance.dropped.items():
            causes[cause] = causes.get(cause, 0) + number
    if causes:
        st.altair_chart(charts.bars(causes, "Dropped, by cause", "Exchanges"), key="drops", alt="Dropped by cause")


def _keys() -> None:
    st.subheader("Gateway keys", anchor=False)
    if page.settings().gateway.keys == "off":
        st.caption('Keys are off: the gateway trusts whoever reaches it. `[gateway] keys = "required"` asks for them.')
    found = page.ask(keys.list_keys)
    zone = page.zone()
    if found:
        now = page.desk().clock()
        st.dataframe(
            {
                "Name": [key.name for key in found],
                "Begins with": [f"{key.prefix}…" for key in found],
                "Tasks": [", ".join(key.tasks) or "all" for key in found],
                "State": [_state(key, now) for key in found],
                "Made": [when(key.created_at, zone) for key in found],
                "Expires": [when(key.expires_at, zone) for key in found],
            },
            hide_index=True,
            alt="Gateway keys",
        )
    usable = {key.id: key for key in found if key.revoked_at is None}
    with st.container(horizontal=True):
        with st.popover("Create a key", icon=":material/add:"):
            _create()
        if usable:
            with st.popover("Revoke a key", icon=":material/block:"):
                _revoke(usable)


def _state(key: keys.Key, now: float) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "usable" if key.usable(now) else "expired"


def _create() -> None:
    with st.form("create-key", border=False, clear_on_submit=True):
        name = st.text_input("Name", max_chars=80, placeholder="support app")
        tasks = st.multiselect("Tasks it may use (none: all)", page.task_names())
        created = st.form_submit_button("Create", type="primary")
    if not created:
        return
    if not name.strip():
        st.error("Give the key a name, so that it can be told from others.", icon=":material/error:")
        return
    with page.guarded():
        secret = verbs.create_key(page.desk(), name.strip(), tasks)
        page.forget()
        st.warning("Copy it now: it is shown this once, and kept nowhere.", icon=":material/key:")
        st.code(secret, language=None)


def _revoke(usable: dict[str, keys.Key]) -> None:
    labels = {identity: f"{key.name} ({key.prefix}…)" for identity, key in usable.items()}
    chosen = st.selectbox("Key", list(labels), format_func=lambda one: labels[one], key="revoke-key")
    st.caption("Gateways refuse it within seconds. It cannot be undone.")
    if st.button("Revoke", type="primary", key="revoke"):
        with page.acting("The key is revoked"):
            verbs.revoke_key(page.desk(), chosen)


def _audit() -> None:
    st.subheader("Audit trail", anchor=False)
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
            column_config={"At": st.column_config.DatetimeColumn(format="D MMM YYYY, HH:mm:ss")},
            alt="Audit trail",
        )
    with st.container(horizontal=True):
        if before is not None:
            st.page_link("views/operations.py", label="Newest", icon=":material/first_page:")
        if len(found) == AUDIT_PAGE:
            query = {"audit_before": found[-1].id}
            st.page_link("views/operations.py", label="Older", icon=":material/chevron_right:", query_params=query)


def _settings() -> None:
    st.subheader("Settings in effect", anchor=False)
    st.caption("Secrets are named here by their variable or file, and never shown.")
    with st.expander("All settings", key="all-settings"):
        st.json(reads.hidden(page.settings()), expanded=1)


if __name__ == "__main__":
    show()
