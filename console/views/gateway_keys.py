"""Gateway keys, as the page Operations shows them: who has which, make one with its limits, revoke one."""

import streamlit as st

from capture import keys
from console import verbs
from console.views import page
from console.views.words import money, when

DAY_S = 86_400.0


def shown() -> None:
    st.header("Gateway keys", anchor=False)
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
                "Limits": [limits_said(key.limits) for key in found],
                "State": [_state(key, now) for key in found],
                "Made": [when(key.created_at, zone) for key in found],
                "Expires": [when(key.expires_at, zone) for key in found],
            },
            hide_index=True,
            alt="Gateway keys",
        )
    if page.below_operator():
        return
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


def limits_said(limits: keys.KeyLimits) -> str:
    """ "60 requests/min, $5.00/month", or "none"."""
    said = [
        f"{value:,} {unit}"
        for value, unit in (
            (limits.requests_per_minute, "requests/min"),
            (limits.tokens_per_minute, "tokens/min"),
            (limits.concurrency, "at once"),
        )
        if value is not None
    ]
    said += [f"{money(limits.monthly_usd)}/month"] if limits.monthly_usd is not None else []
    return ", ".join(said) or "none"


def _create() -> None:
    with st.form("create-key", border=False, clear_on_submit=True):
        name = st.text_input("Name", max_chars=80, placeholder="support app")
        tasks = st.multiselect("Tasks it may use (none: all)", page.task_names())
        left, right = st.columns(2)
        requests = left.number_input("Requests a minute", 1, None, None, placeholder="any")
        tokens = right.number_input("Tokens a minute", 1, None, None, placeholder="any")
        together = left.number_input("Requests at once", 1, None, None, placeholder="any")
        spend = right.number_input("US dollars a month", 0.01, None, None, placeholder="any")
        days = left.number_input("Expires after days", 1, None, None, placeholder="never")
        created = st.form_submit_button("Create", type="primary")
    if not created:
        return
    if not name.strip():
        st.error("Give the key a name, so that it can be told from others.", icon=":material/error:")
        return
    with page.guarded():
        expires_at = None if days is None else page.desk().clock() + days * DAY_S
        limits = keys.KeyLimits(requests, tokens, together, spend)
        secret = verbs.create_key(page.desk(), name.strip(), tasks, expires_at, limits)
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
